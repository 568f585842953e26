"""Build a TensorRT plan from an ONNX graph, and prove that its attention is fused.

Shape letters as in `engine_build.onnx_tensorrt`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundserve.engines.tensorrt_library import TensorRTLibrary, TensorRTTarget
from groundserve.errors import EngineMismatchError, GroundserveError, InvalidRequestError
from groundserve.families.plans import VideoPlan
from groundserve.families.vision_inputs import VisionInputs

logger = logging.getLogger(__name__)

DEFAULT_MAX_TOKENS = 20_480
"""S of the grounding plan where the checkpoint sets no limit of its own."""
_WORKSPACE_BYTES = 8 * 1024**3
"""Most memory of one layer's scratch space on the GPU."""
_OPT_TEXT_TOKENS = 100  # a question
# A line of the layer list that closes a verbose build. Kernels of fused attention, such as
# _gemm_mha_v2_myl0_8, carry "mha" in their name; nothing else does.
_KERNEL = re.compile(r"^Name: (\S+), LayerType", re.MULTILINE)
_FUSED = "mha"


@dataclass(frozen=True)
class ShapeRange:
    """Shapes of one input that a plan takes; `opt_shape` is what it is fastest at."""

    min_shape: tuple[int, ...]
    opt_shape: tuple[int, ...]
    """Of the work that matters most."""
    max_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that every dimension has 1 <= min <= opt <= max."""
        shapes = (self.min_shape, self.opt_shape, self.max_shape)
        if len({len(shape) for shape in shapes}) != 1 or not all(
            1 <= low <= opt <= high for low, opt, high in zip(*shapes, strict=True)
        ):
            raise InvalidRequestError(
                f"a shape range must have 1 <= min <= opt <= max in every dimension, got {shapes}"
            )


@dataclass(frozen=True, kw_only=True)
class PlanReport:
    """What a build did."""

    library: str
    gpu_archs: tuple[str, ...]
    parse_seconds: float
    build_seconds: float
    plan_bytes: int
    num_attention_layers: int
    """Attention operators that the library must run fused or fail to build."""
    num_fused_kernels: int
    """Kernels of fused attention in the build's layer list; 0 where the library prints none."""
    num_kernels: int
    """All that the layer list names, copies included; 0 where the library prints none."""


def vision_shapes(inputs: VisionInputs, usual: VideoPlan) -> dict[str, ShapeRange]:
    """Return the ranges of the vision plan, which is fastest at the shapes of a usual video."""
    # A full chunk is the usual one; only the last of a video has fewer units.
    most = inputs.max_units
    shapes = {}
    for stream in inputs.streams:
        dims = stream.shape(1)[1:]
        shapes[stream.name] = ShapeRange((1, *dims), (most, *dims), (most, *dims))
    for one, array in zip(inputs.plan_inputs, inputs.of_plan(usual), strict=True):
        smallest = tuple(1 if dim < 0 else dim for dim in one.dims)
        shapes[one.name] = ShapeRange(
            (1, *smallest), (most, *array.shape[1:]), (most, *one.max_dims)
        )
    return shapes


def token_scorer_shapes(
    *, hidden_size: int, max_tokens: int, usual: VideoPlan
) -> dict[str, ShapeRange]:
    """Return the ranges of the grounding plan, which is fastest at a usual video's length."""
    opt_tokens = min(usual.num_visual_tokens + _OPT_TEXT_TOKENS, max_tokens)
    lengths = (1, opt_tokens, max_tokens)
    return {"INPUTS_EMBEDS": ShapeRange(*((length, hidden_size) for length in lengths))}


def build_plan(
    onnx_path: Path,
    plan_path: Path,
    *,
    target: TensorRTTarget,
    shapes: Mapping[str, ShapeRange],
    num_layers: int,
    timing_cache_path: Path | None = None,
) -> PlanReport:
    """Build the plan of one graph.

    A plan that fuses fewer than `num_layers` attention layers is refused. The timing cache is read
    when it exists and written after the build, so that the next build on the same GPU is short;
    `tensorrt_rtx` has no such thing and refuses one.

    Raises:
        EngineMismatchError: TensorRT cannot read the graph or build it, or an attention layer is
            not fused; the message holds TensorRT's own words.
    """
    library = target.load()
    library.check_gpu_archs(target.gpu_archs)
    if timing_cache_path is not None and not library.has_timing_cache:
        raise InvalidRequestError(
            f"timing_cache_path must be None with {library.name}, which times nothing while it "
            f"builds, got {timing_cache_path.name}"
        )
    log = make_build_log(library)
    builder = library.module.Builder(log)
    network = library.create_network(builder)
    started = time.perf_counter()
    _parse(library.module, network, log, onnx_path)
    parsed = time.perf_counter()
    config = _configure(library, builder, target, shapes)
    cache = _load_timing_cache(config, timing_cache_path)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineMismatchError(
            f"{library.name} {library.version} cannot build {onnx_path.name} for "
            f"{', '.join(target.gpu_archs)}: {log.first_error()}"
        )
    report = PlanReport(
        library=f"{library.name} {library.version}",
        gpu_archs=target.gpu_archs,
        parse_seconds=parsed - started,
        build_seconds=time.perf_counter() - parsed,
        plan_bytes=plan.nbytes,
        num_attention_layers=_count_attention_layers(library.module, network),
        num_fused_kernels=log.num_fused_kernels,
        num_kernels=log.num_kernels,
    )
    # A fused operator counts as such without its kernel's name, which is no part of any interface.
    num_fused = max(report.num_attention_layers, report.num_fused_kernels)
    if num_fused < num_layers:
        raise EngineMismatchError(
            f"{onnx_path.name} has {num_layers} attention layers and {report.library} fused "
            f"{num_fused} of them; export it in bf16 or fp16 with a head size that is a multiple "
            "of 8"
        )
    # Only now: a plan that is refused above is never written.
    plan_path.write_bytes(plan)
    if cache is not None and timing_cache_path is not None:
        timing_cache_path.write_bytes(cache.serialize())
    logger.info("%s: %d bytes in %.1f s", plan_path.name, plan.nbytes, report.build_seconds)
    return report


def make_build_log(library: TensorRTLibrary) -> Any:
    """Return a logger for a builder that keeps errors and counts kernels, fused ones apart.

    A verbose build logs tens of thousands of lines, so none but these are kept. The class is made
    here because its base belongs to the library.
    """
    trt = library.module

    class BuildLog(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.num_kernels = self.num_fused_kernels = 0

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)
            names = _KERNEL.findall(message)
            self.num_kernels += len(names)
            self.num_fused_kernels += sum(_FUSED in name.lower() for name in names)

        def first_error(self) -> str:
            return self.errors[0].strip() if self.errors else "no reason was given"

    return BuildLog()


def _parse(trt: Any, network: Any, log: Any, onnx_path: Path) -> None:
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(onnx_path)):
        return
    reasons = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
    raise EngineMismatchError(
        f"TensorRT {trt.__version__} cannot read {onnx_path.name}: "
        f"{'; '.join(reasons) or log.first_error()}"
    )


def _configure(
    library: TensorRTLibrary,
    builder: Any,
    target: TensorRTTarget,
    shapes: Mapping[str, ShapeRange],
) -> Any:
    trt = library.module
    config = builder.create_builder_config()
    library.set_gpu_archs(config, target.gpu_archs)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    # What the graph says is float32 stays so: by default its products would be rounded to TF32.
    config.clear_flag(trt.BuilderFlag.TF32)
    # Prints the layer list, and lets an inspector name kernels later.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.min_shape, shape.opt_shape, shape.max_shape)
    if config.add_optimization_profile(profile) < 0:
        raise GroundserveError(f"TensorRT refused the shape ranges of {', '.join(shapes)}")
    return config


def _load_timing_cache(config: Any, path: Path | None) -> Any:
    if path is None:
        return None
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    # None: a file that cannot be used (NVIDIA/TensorRT b8db91e, shared/utils/cacheUtils.cpp).
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        # Timings of another GPU or version are of no use, and would be written again.
        logger.warning("%s holds no timings of this GPU and TensorRT; it is replaced", path.name)
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    return cache


def _count_attention_layers(trt: Any, network: Any) -> int:
    """Count IAttention; the parser makes them so that they cannot be taken apart."""
    types = [network.get_layer(index).type for index in range(network.num_layers)]
    return types.count(trt.LayerType.ATTENTION_INPUT)
