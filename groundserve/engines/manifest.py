"""The manifest of an engine directory: what was built, from what, and a hash of every file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from groundserve._version import __version__
from groundserve.engines.profiles import (
    PROFILES,
    DecoderName,
    Device,
    Precision,
    Profile,
    ProfileName,
    Target,
)
from groundserve.engines.tensorrt_library import TensorRTTarget
from groundserve.errors import EngineMismatchError, InvalidRequestError, UnsupportedError
from groundserve.families import (
    family_names,
    get_family,
    get_frames_family,
    get_text_family,
)
from groundserve.families.base import Family, FramesFamily, ModelSpec, TextFamily
from groundserve.options import Head
from groundserve.strict_json import shown
from groundserve.weights.hashes import file_sha256

MANIFEST_NAME = "manifest.json"
TOKENIZER_NAME = "tokenizer.json"
VISION_ONNX_NAME = "vision_encoder.onnx"
VISION_PLAN_NAME = "vision_encoder.plan"
GROUNDING_ONNX_NAME = "grounding.onnx"
GROUNDING_PLAN_NAME = "grounding.plan"
EMBEDDINGS_NAME = "grounding_embeddings.safetensors"
FRONT_ONNX_NAME = "front.onnx"
TOKEN_EMBEDDINGS_NAME = "token_embeddings.npy"
DECODER_NAME = "decoder"
"""Folder of a head of text: the graph and its weights."""
DECODER_GRAPH_NAME = "model.onnx"
"""In that folder."""
TRTLLM_NAME = "trtllm"
"""Folder of a decoder that TensorRT-LLM runs."""
CHECKPOINT_NAME = "checkpoint"
"""Folder with the copy that the profile `torch` reads."""
REPOSITORY_NAME = "model_repository"
FORMAT_VERSION = 3
CHUNK_FRAMES = 64
"""Frames that are decoded and encoded at once, and the most of one run of the vision engine: a full
chunk fills it, so no two are merged, which would be another shape, with features that depend on
what else was waiting."""
ROW_BYTES_KEY = "groundserve.row_bytes"
"""In an ONNX graph's metadata: bytes of the widest tensor for one row of its first input."""
ROTARY_SWITCH_KEY = "groundserve.rotary_switch"
"""In the metadata of a decoder's graph with two regimes: most positions of a sequence in the first.

Such a graph takes `position_ids`, places in its tables of cos and sin: the positions of the second
regime come there behind as many of the first."""
PROMPT_LIMIT_KEY = "groundserve_max_prompt_tokens"
"""In the config.json of a decoder that vLLM runs: most positions of a prompt."""
_REBUILD = "rebuild the engine directory with: groundserve build"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Contents of `manifest.json`."""

    format_version: int
    family: str
    groundserve_version: str
    """Version that built the directory; only the same version loads it."""
    profile: ProfileName
    """Name of the profile it was built for."""
    device: Device
    precision: Precision
    model: ModelSpec
    """Dimensions and limits of the model: the family's `spec_type`."""
    checkpoint: dict[str, Any]
    """Name, SHA-256 and note of the checkpoint; where the vision weights came from."""
    source_config: dict[str, Any]
    """The checkpoint's config.json, as read."""
    builder: dict[str, Any]
    """Versions of the libraries that built the engines, opset, GPU architecture if any."""
    files: dict[str, str]
    """SHA-256 of every other file, by path relative to the directory."""

    @cached_property  # asked for by each answer, of whose milliseconds the text is a part
    def engine_id(self) -> str:
        """First 16 hex digits of the SHA-256 over the whole manifest."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def identity(self) -> dict[str, Any]:
        """What an answer says about the engine that gave it."""
        return {
            "id": self.engine_id,
            "family": self.family,
            "profile": self.profile,
            "device": self.device,
            "precision": self.precision,
            "checkpoint": self.checkpoint["name"],
            "note": self.checkpoint.get("note"),
        }

    @property
    def encoder_identity(self) -> dict[str, Any]:
        """What decides the encoder's features: family, implementation, arithmetic, weights."""
        engines = {
            name: sha256
            for name, sha256 in self.files.items()
            # `vision_encoder.onnx` or `vision_encoder.plan`, not what the repository has of that
            # name.
            if name.startswith("vision_encoder.")
        }
        # Of the checkpoint and its parts, for a profile that has a copy of it.
        hashes = {name: sha for name, sha in self.checkpoint.items() if name.endswith("sha256")}
        return {
            "family": self.family,
            "encoder": self.stages.encoder,
            "device": self.device,
            "precision": self.precision,
            "weights": engines or hashes,
        }

    def to_json(self) -> str:
        """Return the text of `manifest.json`."""
        # Sorted keys: `engine_id` is a hash of this text.
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, engine_dir: Path) -> Manifest:
        """Read a manifest and check that this version of groundserve can serve it.

        Raises:
            InvalidRequestError: There is no such directory, or no manifest in it.
            EngineMismatchError: It is damaged, or of another version.
        """
        path = engine_dir / MANIFEST_NAME
        if not os.path.exists(path):  # Path.exists raises where a folder may not be looked into
            problem = f"it has no {MANIFEST_NAME}" if engine_dir.is_dir() else "no such directory"
            if os.path.isfile(engine_dir):
                problem = "it is a file"
            raise InvalidRequestError(
                f"{engine_dir} is no engine directory: {problem}; make one with: "
                "groundserve build --checkpoint DIR --out DIR"
            )
        try:
            raw = json.loads(path.read_text("utf-8"))
            json.dumps(raw, ensure_ascii=False).encode()  # what is no text has no identity
        except (OSError, ValueError, RecursionError) as error:
            raise EngineMismatchError(
                f"no readable {MANIFEST_NAME} in the engine directory {engine_dir}; make one with: "
                "groundserve build --checkpoint DIR --out DIR"
            ) from error
        if not isinstance(raw, dict):
            raise EngineMismatchError(f"{MANIFEST_NAME} must be a JSON object; {_REBUILD}")
        if raw.get("format_version") != FORMAT_VERSION:
            raise EngineMismatchError(
                f"{MANIFEST_NAME} must have format_version {FORMAT_VERSION}, "
                f"got {shown(raw.get('format_version'))}; {_REBUILD}"
            )
        # Before `cls(**raw)`: a key too many or too few becomes an error that names it.
        _require_keys(cls, raw)
        # Another version may have other families, and know more of one.
        if raw["groundserve_version"] != __version__:
            raise EngineMismatchError(
                f"the engine directory was built by groundserve {raw['groundserve_version']}, "
                f"this is {__version__}; rebuild it with: groundserve build"
            )
        spec_type = _find_family(raw["family"]).spec_type
        _require_keys(spec_type, raw["model"])
        _require_types(get_type_hints(spec_type), raw["model"])
        _require_sizes(raw["model"])
        manifest = cls(**{**raw, "model": spec_type(**raw["model"])})
        _require_name_of_now(manifest)
        if not isinstance(manifest.profile, str) or manifest.profile not in PROFILES:
            raise EngineMismatchError(
                f"unknown profile {manifest.profile!r}; known: {', '.join(PROFILES)}"
            )
        try:
            manifest.stages.choose(manifest.device, manifest.precision)
        except (UnsupportedError, TypeError) as error:  # of a type that is no key
            raise EngineMismatchError(f"{MANIFEST_NAME}: {error}; {_REBUILD}") from error
        hints = get_type_hints(cls)
        del hints["model"]  # by its family's type, above
        _require_types(hints, raw)
        # Without a hash the features of two checkpoints would have one name in a cache.
        for name in ("name", "sha256"):
            if not isinstance(manifest.checkpoint.get(name), str):
                raise EngineMismatchError(
                    f"{MANIFEST_NAME}: checkpoint must have a {name}; {_REBUILD}"
                )
        return manifest

    @classmethod
    def load_again(cls, engine_dir: Path, engine_id: str) -> Manifest:
        """Read the manifest of a directory that is in use, which a build may replace at any time.

        Files changed in place under the same manifest are not found; `verify_files` finds them.

        Args:
            engine_dir: The directory.
            engine_id: Identity of the engines that it held: `Manifest.engine_id`.

        Raises:
            EngineMismatchError: The directory holds other engines, or none that can be read.
        """
        rebuilt = f"the engine directory {engine_dir} was rebuilt while it was in use"
        remedy = "start a server on the new engines, or put the old directory back"
        try:
            manifest = cls.load(engine_dir)
        except (InvalidRequestError, EngineMismatchError) as error:
            raise EngineMismatchError(f"{rebuilt} or taken away ({error}); {remedy}") from error
        if manifest.engine_id != engine_id:
            raise EngineMismatchError(
                f"{rebuilt}: it holds {manifest.engine_id}, in use is {engine_id}; {remedy}"
            )
        return manifest

    def verify_files(self, engine_dir: Path) -> None:
        """Hash every file the manifest lists.

        Raises:
            EngineMismatchError: A file is missing, unreadable or changed.
        """
        for name, expected in self.files.items():
            path = engine_dir / name
            if not path.is_file():
                raise EngineMismatchError(
                    f"{name} is missing from the engine directory; rebuild it"
                )
            if file_sha256(path) != expected:
                raise EngineMismatchError(
                    f"{name} differs from the hash in {MANIFEST_NAME}; rebuild the engine directory"
                )

    @property
    def target(self) -> Target:
        """What the engines were built for, and how they run.

        Raises:
            EngineMismatchError: The manifest does not say which TensorRT built its plans.
        """
        library = None
        if "tensorrt" in self.stages.engines:
            library = TensorRTTarget.from_dict(self.builder.get("tensorrt")).library
        return Target(
            profile=self.profile,
            device=self.device,
            precision=self.precision,
            library=library,
        )

    @property
    def stages(self) -> Profile:
        """The implementations that the profile names."""
        return PROFILES[self.profile].on(self.device)

    @property
    def decoder(self) -> DecoderName:
        """Who decodes the frames."""
        return self.stages.decoder_of(self.seam.streams(self.model))

    @property
    def head(self) -> Head:
        """What the family answers."""
        return get_family(self.family).head

    @property
    def seam(self) -> Family[Any, Any]:
        """The family itself, which knows what to make of `model`."""
        return self.text_seam if self.head == "text" else self.frames_seam

    @property
    def frames_seam(self) -> FramesFamily[Any, Any]:
        """The same, where `head` is "frames".

        Raises:
            UnsupportedError: It is another.
        """
        return get_frames_family(self.family)

    @property
    def text_seam(self) -> TextFamily[Any]:
        """The same, where `head` is "text".

        Raises:
            UnsupportedError: It is another.
        """
        return get_text_family(self.family)


def _require_name_of_now(manifest: Manifest) -> None:
    """Refuse what was built when `gpu` was called `gpu-trt`, and `gpu-trtllm` was called `gpu`."""
    old: str = manifest.profile
    new = "gpu" if old == "gpu-trt" else None
    if old == "gpu" and isinstance(manifest.builder, dict):
        new = "gpu-trtllm" if manifest.builder.get("tensorrt_llm") else None
    if new is not None:
        raise EngineMismatchError(
            f"{MANIFEST_NAME}: the profile {old} of these engines is called {new} now; "
            f"{_REBUILD} --profile {new}"
        )


def hash_tree(directory: Path) -> dict[str, str]:
    """Return relative path -> SHA-256 for every file below a directory but its manifest."""
    return {str(path.relative_to(directory)): file_sha256(path) for path in _files(directory)}


def _files(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path != directory / MANIFEST_NAME:
            yield path


def _find_family(name: object) -> Family[Any, Any]:
    served = family_names()
    if isinstance(name, str) and name in served:
        return get_family(name)
    raise EngineMismatchError(
        f"{MANIFEST_NAME}: family must be one that this version of groundserve serves "
        f"({', '.join(served)}), got {shown(name)}; {_REBUILD}"
    )


def _require_keys(kind: type[Any], raw: object) -> None:
    names = {field.name for field in fields(kind)}
    found = set(raw) if isinstance(raw, dict) else set()
    # Strictly: a key that is not known may change what the engines mean.
    if found != names:
        odd = ", ".join(sorted(found ^ names))
        raise EngineMismatchError(
            f"{MANIFEST_NAME} does not have the expected keys ({odd}); rebuild the engine directory"
        )


def _require_types(hints: dict[str, Any], raw: dict[str, Any]) -> None:
    for name, hint in hints.items():
        if not _is_of(raw[name], hint):
            raise EngineMismatchError(
                f"{MANIFEST_NAME}: {name} must be of type {getattr(hint, '__name__', hint)}, "
                f"got {shown(raw[name])}; {_REBUILD}"
            )


def _require_sizes(model: dict[str, Any]) -> None:
    """Refuse a whole number below 1, but of ids: the rest are counts and sides."""
    for name, value in model.items():
        if type(value) is int and value < 1 and not name.endswith("_id"):
            raise EngineMismatchError(
                f"{MANIFEST_NAME}: {name} must be >= 1, got {shown(value)}; {_REBUILD}"
            )


def _is_of(value: Any, hint: Any) -> bool:
    """Tell whether a value of JSON is what a field of that type holds."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return any(_is_of(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is dict:
        return isinstance(value, dict) and all(_is_of(one, inner[1]) for one in value.values())
    if origin is list:
        return isinstance(value, list) and all(_is_of(one, inner[0]) for one in value)
    # Not `isinstance`: JSON's true is a bool, which is an int.
    return hint is Any or type(value) is hint
