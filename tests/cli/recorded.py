"""Cases that a reference recorded, over the command line as whoever checks from outside asks."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.command import run_cli


def ask(case: Any, clips: Any, *source: object) -> dict[str, Any]:
    """Return what `groundserve ask` prints of a case as JSON."""
    clip, num_frames = case.options.clip_seconds, case.options.num_frames
    finished = run_cli(
        *("ask", case.path(clips), "--task", case.options.task, "--raw", "--query", case.query),
        *("--json", "--max-new-tokens", case.options.max_new_tokens, *source),
        *(() if clip is None else ("--clip-seconds", f"{clip[0]}:{clip[1]}")),
        *(() if num_frames is None else ("--num-frames", num_frames)),
    )
    assert finished.code == 0, finished.stderr
    assert finished.stdout.count("\n") == 1
    return json.loads(finished.stdout)


def check(case: Any, found: dict[str, Any], *, num_sure: int | None = None) -> None:
    """Compare an answer with the recorded one, whose first tokens alone may be binding."""
    (answer,) = found["answers"]
    assert found["frame_indices"] == case.frame_indices
    assert (answer["query"], answer["task"]) == (case.query, case.options.task)
    assert answer["prompt_token_ids"] == case.input_ids
    assert answer["token_ids"][:num_sure] == case.token_ids[:num_sure]
    if num_sure in (None, len(case.token_ids)):
        assert answer["text"] == case.text
        assert answer["stop_reason"] == ("eos" if case.stopped_by_eos else "length")


def doctor(*args: object) -> dict[str, Any]:
    """Return what `groundserve doctor` says of each subject."""
    finished = run_cli("doctor", *args, "--json")
    assert finished.code == 0, finished.stderr
    return {row["subject"]: row["detail"] for row in json.loads(finished.stdout)["findings"]}
