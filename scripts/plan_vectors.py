"""Keep of a reference set the frames its reference samples: python scripts/plan_vectors.py SET OUT.

SET is the folder of one of the sets `vtimellm_ref`, `grounded_videollm_ref` and `vtgllm_ref`, what
the reference's own code returned; OUT is `tests/fixtures/SET/plans.json`: every list of ordinals in
the set's cases.json with what it follows from; "video" is null where a stand-in was sampled. Equal
ones are kept once, under all their names.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Vectors = Iterator[tuple[str, dict[str, Any]]]


def vtimellm_vectors(cases: dict[str, Any]) -> Vectors:
    """Yield name and vector; a case has the rate and length of its video's entry."""
    videos = {(v["video"], str(v["split_seconds"])): v for v in cases["videos"].values()}
    for key, video in cases["videos"].items():
        yield f"videos.{key}", _vtimellm_vector(video)
    for case in cases["cases"]:
        if case["video"] is not None:
            video = videos[case["video"], str(case["split_seconds"])]
            yield f"cases.{case['name']}", _vtimellm_vector({**video, **case})
    for place, vector in enumerate(cases["frame_index_vectors"]):
        yield f"frame_index_vectors.{place}", _vtimellm_vector(vector)


def _vtimellm_vector(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "video": entry.get("video"),
        "num_source_frames": entry["num_source_frames"],
        "average_fps": entry["avg_fps"],
        "clip_seconds": entry["split_seconds"],
        "frame_indices": entry["frame_indices"],
    }


def grounded_videollm_vectors(cases: dict[str, Any]) -> Vectors:
    """Yield name and vector; the function's own have neither rate nor key frames."""
    for case in cases["cases"]:
        for place, item in enumerate(case["items"]):
            yield (
                f"cases.{case['name']}.{place}",
                {
                    "video": item["video"],
                    "num_source_frames": item["total_frames"],
                    "average_fps": item["fps"],
                    "duration_seconds": item["duration"],
                    "frame_indices": item["frame_indices"],
                    "key_frame_positions": item["key_frame_positions"],
                },
            )
    for length, frame_indices in cases["functions"]["frame_indices"].items():
        yield (
            f"functions.frame_indices.{length}",
            {
                "video": None,
                "num_source_frames": int(length),
                "frame_indices": frame_indices,
            },
        )


def vtgllm_vectors(cases: dict[str, Any]) -> Vectors:
    """Yield name and vector; the cases do not say where integer division differs."""
    groups = (("cases", cases["cases"]), ("frame_sampling", cases["functions"]["frame_sampling"]))
    for group, entries in groups:
        for place, entry in enumerate(entries):
            kept = ("frame_indices", "timestamps", "time_rows", "differs_from_integer_floor")
            yield (
                f"{group}.{entry.get('name', place)}",
                {
                    "video": entry.get("video"),
                    "num_frames": entry["n_frms"],
                    "num_source_frames": entry["total_frames"],
                    "average_fps": entry["avg_fps"],
                    **{name: entry[name] for name in kept if name in entry},
                },
            )


READERS = {
    "vtimellm_ref": vtimellm_vectors,
    "grounded_videollm_ref": grounded_videollm_vectors,
    "vtgllm_ref": vtgllm_vectors,
}


def main(reference_set: Path, out: Path) -> None:
    """Write the vectors of a set, one on each line."""
    cases = json.loads((reference_set / "cases.json").read_text("utf-8"))
    names: dict[str, list[str]] = {}
    for name, vector in READERS[reference_set.name](cases):
        names.setdefault(json.dumps(vector), []).append(name)
    lines = [json.dumps({"names": of, **json.loads(vector)}) for vector, of in names.items()]
    out.write_text("[\n" + ",\n".join(lines) + "\n]\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
