"""A config that cannot be trained cannot be made."""

from dataclasses import replace
from pathlib import Path

import pytest

from groundserve.errors import InvalidRequestError
from train.families.videoitg.stages import grounding, projector

PATHS = {"init": Path("a"), "records": Path("b"), "media_root": Path("c"), "out": Path("d")}


def test_anchors_are_for_grounding_only():
    assert replace(grounding(**PATHS), variant="anchor").variant == "anchor"
    with pytest.raises(InvalidRequestError, match='stage "projector" writes text'):
        replace(projector(**PATHS), variant="anchor")
