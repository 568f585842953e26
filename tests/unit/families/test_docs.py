"""docs/families.md against the protocols that it explains."""

from __future__ import annotations

import re

import pytest

from groundserve.families import family_names
from groundserve.families.base import EngineFamily, FamilyCheckpoint, ModelSpec, QueryTokenizer
from tests.reference import REPOSITORY

PAGE = (REPOSITORY / "docs" / "families.md").read_text("utf-8")
NAMED = set(re.findall(r"`(\w+)", PAGE))


@pytest.mark.parametrize("protocol", [EngineFamily, FamilyCheckpoint, ModelSpec, QueryTokenizer])
def test_every_member_is_explained(protocol):
    members = {name for part in protocol.__mro__ for name in vars(part) if name[0] != "_"}
    assert members
    assert not members - NAMED


def test_every_family_is_listed():
    assert not set(family_names()) - NAMED
