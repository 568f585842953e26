"""The one place that knows how `tensorrt` (10 and 11) and `tensorrt_rtx` differ.

`tensorrt` builds for the GPU it finds. `tensorrt_rtx` builds for architectures it is told, on any
machine, and offers none of the data-centre ones after sm_80. A plan opens in the library and
version that built it, on an architecture it was built for.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

from groundserve.engines.profiles import LibraryName
from groundserve.errors import EngineMismatchError, MissingExtraError, UnsupportedError
from groundserve.runtime.gpu import current_gpu_arch

_REBUILD = "rebuild the engine directory with: groundserve build"


@dataclass(frozen=True, kw_only=True)
class TensorRTLibrary:
    """One of the two libraries, imported."""

    name: LibraryName
    module: Any
    """The module; what both libraries have is called on it directly."""

    @property
    def version(self) -> str:
        """Its version; plans of another do not open."""
        return str(self.module.__version__)

    @property
    def has_timing_cache(self) -> bool:
        """Whether timings of one build shorten the next; `tensorrt_rtx` times nothing."""
        return self.name == "tensorrt"

    def create_network(self, builder: Any) -> Any:
        """Return an empty network whose tensors have the types that the graph says."""
        # 11 and `tensorrt_rtx` type every network strongly; 10 does where it is told to.
        flags = 0
        if self.name == "tensorrt" and int(self.version.split(".")[0]) < 11:
            flags = 1 << int(self.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        return builder.create_network(flags)

    def set_gpu_archs(self, config: Any, gpu_archs: Sequence[str]) -> None:
        """Tell a builder's config what to build for; `tensorrt` is never told."""
        if self.name == "tensorrt_rtx":
            config.num_compute_capabilities = len(gpu_archs)
            offered = self._offered_archs()
            for index, gpu_arch in enumerate(gpu_archs):
                config.set_compute_capability(offered[gpu_arch], index)

    def create_context(self, engine: Any) -> Any:
        """Return an execution context; None where the GPU has no room for one."""
        if self.name == "tensorrt_rtx":
            return engine.create_execution_context(engine.create_runtime_config())
        return engine.create_execution_context()

    def check_gpu_archs(self, gpu_archs: Sequence[str]) -> None:
        """Refuse architectures for which this library cannot build here.

        Raises:
            UnsupportedError: An architecture is unknown, given twice, or not offered; or, with
                `tensorrt`, not that of this machine's GPU.
        """
        if len(set(gpu_archs)) != len(gpu_archs) or not gpu_archs:
            raise UnsupportedError(
                f"gpu_archs must be one or more, each once, got {', '.join(gpu_archs) or 'none'}"
            )
        if self.name == "tensorrt_rtx":
            offered = self._offered_archs()
            for gpu_arch in gpu_archs:
                if gpu_arch not in offered:
                    raise UnsupportedError(
                        f"tensorrt_rtx {self.version} builds for {', '.join(offered)}, got "
                        f"{gpu_arch!r}; for another GPU use tensorrt on a machine that has one"
                    )
        elif list(gpu_archs) != [current_gpu_arch()]:
            raise UnsupportedError(
                f"tensorrt builds for this machine's GPU ({current_gpu_arch() or 'none found'}), "
                f"got {', '.join(gpu_archs)}; build where that GPU is"
            )

    def _offered_archs(self) -> dict[str, Any]:
        """Name (sm_89) -> the library's member, for real architectures."""
        members = self.module.ComputeCapability.__members__
        return {
            f"sm_{name.removeprefix('SM')}": member
            for name, member in members.items()
            if name.startswith("SM")
        }


@dataclass(frozen=True, kw_only=True)
class TensorRTTarget:
    """What plans are built with and for; stands in the manifest."""

    library: LibraryName
    version: str
    gpu_archs: tuple[str, ...]
    """Architectures that the plans run on, such as sm_89."""

    @classmethod
    def choose(cls, gpu_archs: Sequence[str] = ()) -> TensorRTTarget:
        """Return the target of a build on this machine.

        Args:
            gpu_archs: Architectures to build for with `tensorrt_rtx`; none: with `tensorrt`, for
                the GPU of this machine.

        Raises:
            MissingExtraError, UnsupportedError: The library is not installed.
            UnsupportedError: An architecture is not offered, or this machine has no GPU.
        """
        if gpu_archs:
            library = load_tensorrt("tensorrt_rtx")
        else:
            here = current_gpu_arch()
            if here is None:
                raise UnsupportedError(
                    "TensorRT plans are built for this machine's GPU, and it has none; build "
                    "where the GPU is, or name gpu_archs (sm_89) to build with tensorrt_rtx"
                )
            library, gpu_archs = load_tensorrt("tensorrt"), (here,)
        library.check_gpu_archs(gpu_archs)
        return cls(library=library.name, version=library.version, gpu_archs=tuple(gpu_archs))

    @classmethod
    def from_dict(cls, raw: Any) -> TensorRTTarget:
        """Read what `describe` wrote.

        Raises:
            EngineMismatchError: It is something else.
        """
        try:
            target = cls(**{**raw, "gpu_archs": tuple(raw["gpu_archs"])})
        except (KeyError, TypeError) as error:
            raise EngineMismatchError(
                f"the manifest does not say which TensorRT built its plans; {_REBUILD}"
            ) from error
        if target.library not in get_args(LibraryName):
            raise EngineMismatchError(
                f"the manifest's TensorRT library must be one of "
                f"{', '.join(get_args(LibraryName))}, got {target.library!r}; {_REBUILD}"
            )
        return target

    def describe(self) -> dict[str, Any]:
        """Return what the manifest records: library, version, gpu_archs."""
        return {**asdict(self), "gpu_archs": list(self.gpu_archs)}

    def load(self) -> TensorRTLibrary:
        """Import the library.

        Raises:
            MissingExtraError, UnsupportedError: It is not installed.
            EngineMismatchError: It has another version.
        """
        library = load_tensorrt(self.library)
        if library.version != self.version:
            raise EngineMismatchError(
                f"the plans were built by {self.library} {self.version}, this machine has "
                f"{library.version}; {_REBUILD}"
            )
        return library

    def check_gpu(self) -> None:
        """Refuse to run on a GPU that the plans were not built for.

        Raises:
            EngineMismatchError: This machine's GPU is another one, or it has none.
        """
        here = current_gpu_arch()
        if here not in self.gpu_archs:
            raise EngineMismatchError(
                f"the plans were built for {', '.join(self.gpu_archs)}, this machine has "
                f"{here or 'no GPU'}; run them there, or {_REBUILD}"
            )


def load_tensorrt(name: LibraryName) -> TensorRTLibrary:
    """Import one of the libraries.

    Raises:
        MissingExtraError: `tensorrt_rtx` is not installed.
        UnsupportedError: `tensorrt` is not installed; no extra brings it.
    """
    try:
        return TensorRTLibrary(name=name, module=importlib.import_module(name))
    except ImportError as error:
        if name == "tensorrt_rtx":
            raise MissingExtraError("tensorrt", name) from error
        raise UnsupportedError(
            "tensorrt is not installed; it comes with NVIDIA's containers (deploy/Dockerfile)"
        ) from error
