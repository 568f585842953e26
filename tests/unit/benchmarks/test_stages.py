"""How the stages' costs become rows."""

import pytest

from benchmarks._usage import Usage
from benchmarks.stages import STAGES, Costs, stage_rows


def costs(decode_wall, *, decode_floor):
    """Stages of 1 s in two chunks; decoding as given, in one."""
    half = Usage(wall_seconds=0.5, cpu_seconds=0.25, peak_rss_mib=1.0)
    found = Costs(
        usage={stage: [half, half] for stage in STAGES},
        num_bytes={"decode": 300},
        floor_seconds={"decode": decode_floor},
    )
    found.usage["decode"] = [Usage(wall_seconds=decode_wall, cpu_seconds=6.0, peak_rss_mib=1.0)]
    return found


def test_rows_have_the_floor_beside_the_time():
    rows = stage_rows(
        [costs(4.0, decode_floor=2.0), costs(8.0, decode_floor=3.0)],
        {"encode": 0.8, "ground": 0.25},
    )
    assert tuple(rows) == STAGES
    assert rows["decode"]["wall_seconds"]["median"] == 6.0
    assert rows["decode"]["cpu_seconds"] == 6.0
    assert rows["decode"]["bytes"] == 300
    # Of a floor that is timed itself, the best.
    assert rows["decode"]["floor_seconds"] == 2.0
    assert rows["decode"]["share_of_floor"] == pytest.approx(2.0 / 6.0)
    # Chunks add up.
    assert rows["encode"]["wall_seconds"]["median"] == 1.0
    assert rows["encode"]["cpu_seconds"] == 0.5
    assert rows["encode"]["share_of_floor"] == pytest.approx(0.8)
    assert rows["probe"]["floor_seconds"] is None
    assert rows["probe"]["share_of_floor"] is None
