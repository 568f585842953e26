"""Build and score in one process, on the tree that this Python finds first.

python toy_program.py FOLDER VIDEO QUERY ...: FOLDER holds `toy-tiny`, a checkpoint, and gets the
engine directories `cpu` and `torch` and `said.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import groundserve
from groundserve import Pipeline
from tests.cli.command import run_cli


def main(folder: Path, video: Path, queries: list[str]) -> None:
    checkpoint = folder / "toy-tiny"

    def build(profile: str) -> tuple[object, ...]:
        return (
            "build",
            "--checkpoint",
            checkpoint,
            "--out",
            folder / profile,
            "--profile",
            profile,
        )

    commands = {
        "build cpu": (*build("cpu"), "--json"),
        "build torch": (*build("torch"), "--json"),
        "build gpu": build("gpu"),
        "build gpu-trtllm": build("gpu-trtllm"),
    }
    said = {name: run_cli(*command)._asdict() for name, command in commands.items()}
    opened = {
        "cpu": lambda: Pipeline.open(folder / "cpu"),
        "torch": lambda: Pipeline.open(folder / "torch"),
        "checkpoint": lambda: Pipeline.from_checkpoint(checkpoint),
    }
    answers = {}
    for name, open_pipeline in opened.items():
        with open_pipeline() as pipeline:
            answers[name] = pipeline.score(video, queries).to_json()
    found = {"tree": groundserve.__file__, "said": said, "answers": answers}
    (folder / "said.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
