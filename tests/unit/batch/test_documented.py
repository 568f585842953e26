"""What a reader of a run directory meets is documented."""

import re
from pathlib import Path
from typing import get_args

import pytest

from groundserve.batch import events
from groundserve.batch.errors import ErrorKind
from groundserve.batch.rows import COLUMNS
from groundserve.batch.shards import schema
from groundserve.storage import REMOTE_PROTOCOLS

PAGE = (Path(__file__).parents[3] / "docs" / "batch.md").read_text("utf-8")
EVENTS = [re.sub("(?<!^)([A-Z])", r"_\1", kind.__name__).lower() for kind in get_args(events.Event)]


def section(title):
    return re.split(rf"^#+ {title}$", PAGE, flags=re.MULTILINE)[1]


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Manifest", [*COLUMNS, *REMOTE_PROTOCOLS]),
        ("Output", [*schema().names, *map(str, ErrorKind)]),
        ("Log", [*EVENTS, "heartbeat"]),
    ],
)
def test_every_name_is_documented(title, names):
    assert [name for name in names if f"`{name}`" not in section(title)] == []
