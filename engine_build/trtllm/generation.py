"""Build a decoder that generates, from TensorRT-LLM's own network, for Triton's `tensorrtllm`.

Keys and values are paged, so that Triton's backend can keep those of a video for its next question;
the rows of the video's block reach the engine with a request, as its prompt table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine_build.trtllm.build import compile_engine
from engine_build.trtllm.layout import DTYPE_NAMES
from groundserve.errors import UnsupportedError
from groundserve.families.base import Family, ModelSpec
from groundserve.families.default_video import default_plan
from groundserve.profiles import Precision

# Answers that grow side by side: a step reads all weights once, whatever the number. Not measured.
_MAX_BATCH_SIZE = 8
# Of one pass: two of the longest prompts beside the steps of the others. Not measured.
_PROMPTS_A_PASS = 2


@dataclass(frozen=True, kw_only=True)
class GenerationLimits:
    """Sizes an engine that generates is built for, in the builder's own words."""

    max_batch_size: int
    """Most answers that grow side by side."""
    max_seq_len: int
    """Most tokens of a prompt, its video's rows among them, and of its answer together."""
    max_num_tokens: int
    """Most tokens of one pass."""
    max_prompt_embedding_table_size: int
    """Rows of the prompt tables of all sequences in a pass together."""

    @classmethod
    def for_model(cls, family: Family[Any, Any], model: ModelSpec) -> GenerationLimits:
        """Return the sizes for a model: as many tokens as its decoder has positions.

        Args:
            family: Of the model, whose usual video has the most rows.
            model: Its dimensions, the family's `spec_type`.

        Raises:
            UnsupportedError: The model does not say how many it has.
        """
        if model.max_tokens is None:
            raise UnsupportedError(
                "an engine that generates is built for the positions of its decoder, and this "
                "checkpoint does not say how many it has; choose the profile torch"
            )
        # Of the block before the decoder: a front may make fewer of a video's features.
        rows = default_plan(family, model).num_visual_tokens
        return cls(
            max_batch_size=_MAX_BATCH_SIZE,
            max_seq_len=model.max_tokens,
            max_num_tokens=_PROMPTS_A_PASS * model.max_tokens,
            max_prompt_embedding_table_size=_MAX_BATCH_SIZE * rows,
        )


def build_generation_engine(
    convert: Callable[[Path], None],
    engine_dir: Path,
    *,
    limits: GenerationLimits,
    precision: Precision,
    timing_cache: Path | None = None,
) -> None:
    """Build the decoder's engine for the GPU of this machine.

    Args:
        convert: As `compile_engine` takes it.
        engine_dir: Directory to write; made if missing.
        limits: Sizes to build for.
        precision: fp16 or bf16.
        timing_cache: As `build_engine` takes it.

    Raises:
        UnsupportedError: See `compile_engine`; or the precision is another one.
        UnavailableError: See `compile_engine`.
    """
    if precision not in ("fp16", "bf16"):
        raise UnsupportedError(
            f"TensorRT-LLM's fused attention computes in bf16 or fp16, got precision {precision}"
        )
    flags = generation_flags(limits, precision=precision)
    compile_engine(convert, flags, engine_dir, timing_cache=timing_cache)


def generation_flags(limits: GenerationLimits, *, precision: Precision) -> dict[str, object]:
    """Return the flags of a network that generates; docs/tensorrt_llm.md says why.

    Args:
        limits: Sizes to build for.
        precision: fp16 or bf16.
    """
    dtype = DTYPE_NAMES[precision]
    flags = {
        "max_batch_size": limits.max_batch_size,
        "max_beam_width": 1,
        # An answer has one token at least.
        "max_input_len": limits.max_seq_len - 1,
        "max_seq_len": limits.max_seq_len,
        "max_num_tokens": limits.max_num_tokens,
        # A step of as many answers: of all passes the most.
        "opt_num_tokens": limits.max_batch_size,
        "max_prompt_embedding_table_size": limits.max_prompt_embedding_table_size,
        "kv_cache_type": "paged",
        "remove_input_padding": "enable",
        "context_fmha": "enable",
        "gpt_attention_plugin": dtype,
        "gemm_plugin": dtype,
        # Blocks of keys and values are used again only by an engine that has this.
        "use_paged_context_fmha": "enable",
        "use_fp8_context_fmha": "disable",
        "use_fused_mlp": "enable",
    }
    return flags  # noqa: RET504 - docs/nvidia_calls.json finds them by this name
