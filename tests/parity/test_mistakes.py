"""The bound on rounding is one that a wrong model does not meet.

Each mistake is made in the float64 model, on the longest and the shortest sample of each
checkpoint. The least of them, another form of GELU, moves logits by 14 times the bound.
"""

from __future__ import annotations

import pytest

from tests.support.mistakes import MISTAKES, miss
from tests.support.reference import LONGEST_AND_SHORTEST

MARGIN = 10


@pytest.mark.parametrize("case", LONGEST_AND_SHORTEST, ids=lambda case: case.label)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_wrong_model_is_far_outside(mistake, case, clips):
    assert miss(mistake, case, clips[case.video]) > MARGIN
