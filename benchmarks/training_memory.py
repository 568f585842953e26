"""What a GPU holds when the full-size model is trained: the table of docs/training.md.

    python -m benchmarks.training_memory

Arithmetic (`train.families.videoitg.memory`), for the longest sample of each stage; a test
compares the page with it.
"""

from __future__ import annotations

from benchmarks.gpu.size import FULL
from train.config import Stage
from train.families.videoitg.memory import PassSize, count_parameters, gpu_bytes

NUM_SHARDS = 8
SIZES: dict[Stage, PassSize] = {
    # Two images with their captions.
    "projector": PassSize(num_frames=2, num_visual=2 * 729, num_text=200, num_targets=200),
    # As many tokens as a sample may have; 1,000 of them are learnt.
    "video": PassSize(num_frames=256, num_visual=12_480, num_text=3_904, num_targets=1_000),
    # All visual tokens there may be, and a question.
    "grounding": PassSize(num_frames=1024, num_visual=16_384, num_text=116, num_targets=0),
}
NAMES = {"projector": "stage 1", "video": "stages 2, 3", "grounding": "stage 4"}
ARITHMETIC = {
    "weights, gradients and two moments, sharded": "float32: (4 x parameters + 12 x trained) / 8",
    "inputs of the layers": "28 x tokens x 3,584, bf16",
    "one layer, recomputed and backward": "what autograd keeps of a layer, and its gradients",
    "projector and final norm": "what autograd keeps of them",
    "embedding, projector and head, gathered": "bf16; not sharded again until the backward pass",
    "... and their gradients": "bf16, and float32 while they are summed",
    "two layers, gathered": "bf16; one computes, one is under way",
    "one layer's gradients": "bf16, and float32 while they are summed",
    "logits": "12 bytes each (bf16, float32, their gradients)",
    "vision tower": "bf16, 26 layers, a copy in every process",
    "frames in the tower": "at most 64 at once",
}


def table(*, num_shards: int = NUM_SHARDS) -> str:
    """Return it as Markdown, in GB = 1e9 bytes."""
    counts = [count_parameters(stage, FULL.checkpoint) for stage in SIZES]
    parts = [
        gpu_bytes(stage, FULL.checkpoint, FULL.tower, num_shards=num_shards, size=size)
        for stage, size in SIZES.items()
    ]
    rows = [
        ["", *(NAMES[stage] for stage in SIZES), "arithmetic"],
        ["---"] * (len(SIZES) + 2),
        ["parameters", *(f"{count.total / 1e9:.3f}e9" for count in counts), ""],
        ["... of them trained", *(f"{count.trained / 1e9:.3f}e9" for count in counts), ""],
        ["tokens of a pass", *(f"{size.num_tokens:,}" for size in SIZES.values()), ""],
        *([name, *(_gb(part[name]) for part in parts), ARITHMETIC[name]] for name in parts[0]),
        ["**sum**", *(f"**{sum(part.values()) / 1e9:.0f}**" for part in parts), "upper bound"],
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.1f}"


def main() -> None:
    """Print the table."""
    print(table())


if __name__ == "__main__":
    main()
