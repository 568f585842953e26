"""What VTG-LLM's reference recorded of its stages, and the frames that it saw."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.filter import Graph
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from groundserve.families.vtgllm.checkpoint import Checkpoint
from tests.support.reference import VTGLLM
from tests.support.vtgllm_cases import parts_of

RECORDED = json.loads((VTGLLM / "cases.json").read_text("utf-8"))
CASES: dict[str, Any] = {case["name"]: case for case in RECORDED["cases"]}
FUNCTIONS = RECORDED["functions"]
TENSORS = load_file(VTGLLM / "stages.safetensors")
TOLERANCE = 1e-4
"""How far a float32 engine may be from the reference, as the project holds logits to, which come of
these stages and vary three times as much."""

_TURNS = {90: "cclock", -90: "clock"}


@cache
def open_config(config: str, **parts: str) -> Checkpoint:
    """Open the recorded checkpoint as one of the recorded configurations says."""
    given = {name: [one] for name, one in parts.items()}
    return Checkpoint.open(VTGLLM, parts={**parts_of(config), **given})


def formula_frame(t: int) -> NDArray[np.uint8]:
    """Return frame t of the videos that the fixture's README gives a formula for."""
    y, x, c = np.ogrid[:224, :224, :3]
    value = 5 * t * (c + 1) + (7 + 2 * c) * x // 3 + (9 - c) * y // 4
    return ((value + x * y // (61 + t % 7) * (c + 1)) % 256).astype(np.uint8)


def seen_frames(case: dict[str, Any], clips: dict[str, Path]) -> NDArray[np.uint8]:
    """Return uint8 (T, 224, 224, 3), which must be what the reference saw, bit for bit."""
    if case["video"].startswith("formula"):
        frames = [formula_frame(t) for t in case["frame_indices"]]
    else:
        path = {**clips, "short_41f": VTGLLM / "clips" / "short_41f.mp4"}[case["video"]]
        frames = _scaled(path, set(case["frame_indices"]))
    stacked = np.stack(frames)
    assert hashlib.sha256(stacked).hexdigest() == case["decoded"]["sha256"]
    return stacked


def deviation(recorded: dict[str, Any], found: Tensor) -> float:
    """Return how far a tensor is from what was recorded of it: elements, and sums over all."""
    assert found.numel() == np.prod(recorded["shape"])
    flat = found.detach().double().flatten().numpy()
    values = flat[recorded["probe_index"]] - recorded["probe_value"]
    size = np.sqrt(len(flat))
    ordered = flat @ np.cos(0.37 * np.arange(len(flat))) / size - recorded["ordered"]
    # As means of squares: an error of every element by e moves them by e at most.
    norm = (np.linalg.norm(flat) - recorded["l2"]) / size
    return float(np.abs([*values, ordered, norm]).max())


def frame_text_ids(case: dict[str, Any]) -> Tensor | None:
    """Return float32 (T, L) of the sentences, None where none is read."""
    text = case.get("qformer_text")
    return None if text is None else torch.tensor(text["input_ids"], dtype=torch.float32)


def _scaled(path: Path, wanted: set[int]) -> list[NDArray[np.uint8]]:
    frames: list[NDArray[np.uint8]] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        graph = None
        for ordinal, frame in enumerate(container.decode(stream)):
            if ordinal not in wanted:
                continue
            if graph is None:
                graph = _graph(stream, frame.rotation)
            graph.push(frame)
            frames.append(graph.pull().to_ndarray())
    return frames


def _graph(stream: av.VideoStream, rotation: int) -> Graph:
    graph = Graph()
    steps = [graph.add_buffer(template=stream)]
    if rotation:
        steps.append(graph.add("transpose", _TURNS[rotation]))
    steps.append(graph.add("scale", "224:224:flags=bilinear"))
    steps += [graph.add("format", "rgb24"), graph.add("buffersink")]
    for one, following in pairwise(steps):
        one.link_to(following)
    graph.configure()
    return graph
