"""The same workload for Triton's `perf_analyzer`: its input file, its command line, its figures.

Source: triton-inference-server/perf_analyzer 9254d0a, `docs/input_data.md` (the file), and 3a142e1,
`docs/cli.md` (the options).
"""

from __future__ import annotations

import base64
import csv
import itertools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.utils import serialize_byte_tensor

from benchmarks._arrivals import mix
from benchmarks._generator import Load
from benchmarks._senders import MODEL, SCHEMES

_TIMEOUT_SECONDS = 300.0
"""Of one run of the program."""
_NUM_ENTRIES = 16
"""Of a run whose requests are all about cached videos."""


def write_input(path: Path, load: Load, num_entries: int) -> None:
    """Write a load's requests as the file that `--input-data` names.

    The program takes the entries in turn and begins again: a new video is one in the first round
    only, so let there be as many entries as it will send requests.

    Args:
        path: Of the JSON file.
        load: Whose requests.
        num_entries: How many.
    """
    kinds = itertools.islice(mix(load.cached_share, seed=load.seed), num_entries)
    entries = [
        {
            name: {"content": {"b64": _base64(array)}, "shape": list(array.shape)}
            for name, array in load.workload.tensors(number, is_cached=is_cached).items()
        }
        for number, is_cached in enumerate(kinds, load.first_number)
    ]
    path.write_text(json.dumps({"data": entries}))


def command(program: str, load: Load, data: Path) -> list[str]:
    """Return the command line for a load.

    Args:
        program: `perf_analyzer`, or a path to it.
        load: A closed loop or an open one.
        data: What `write_input` wrote.
    """
    loop = [f"--concurrency-range={load.num_clients}"]
    if load.rate is not None:
        # Asynchronous: each of its 4 threads would wait for an answer before the next arrival.
        loop = [f"--request-rate-range={load.rate:g}", "--request-distribution=poisson", "--async"]
    return [
        *(program, "-m", MODEL, "-i", SCHEMES[load.way], "-u", load.address),
        f"--input-data={data}",
        *loop,
        f"--measurement-interval={round(load.windows.seconds * 1000)}",
        f"--stability-percentage={100 * load.windows.stability:g}",
        f"--max-trials={load.windows.most}",
    ]


def run(program: str, load: Load) -> dict[str, Any]:
    """Run the program; return its figures, or what it said where it has none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder / "input.json", load, _NUM_ENTRIES)
        ended = subprocess.run(
            [*command(program, load, folder / "input.json"), "-f", str(folder / "figures.csv")],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
        if ended.returncode:
            said = (ended.stdout + ended.stderr).strip().splitlines()
            return {"failed": " ".join(said[-2:])}
        return read_figures((folder / "figures.csv").read_text())


def read_figures(table: str) -> dict[str, Any]:
    """Return what the program's CSV says of the one load it has, in our units."""
    (row,) = csv.DictReader(table.splitlines())
    return {
        "answers_per_second": float(row["Inferences/Second"]),
        "seconds": {
            name: float(row[f"{column} latency"]) / 1e6
            for name, column in (("median", "p50"), ("p90", "p90"), ("p99", "p99"))
        },
    }


def _base64(array: NDArray[Any]) -> str:
    """Return a tensor's bytes, a text's with its length before it."""
    if array.dtype == np.object_:
        return base64.b64encode(serialize_byte_tensor(array).item()).decode()
    return base64.b64encode(array.tobytes()).decode()
