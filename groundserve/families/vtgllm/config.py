"""The reference's evaluation YAML: the keys of it that decide what a model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from groundserve import extras
from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.strict_json import shown

Sampler = Literal["slot", "cross", "none"]
"""How the vectors of all frames become the decoder's."""

TimeFill = Literal["none", "reference", "corrected"]
"""What seconds that training never saw are embedded as; see `time_fill`."""

TIME_FILLS: tuple[TimeFill, ...] = get_args(TimeFill)

_MODEL = "vtgllm"
_SAMPLERS = get_args(Sampler)
_MAX_TEXT = 2048
# The table is made to this size, whatever the trained one has.
_MAX_FRAMES = 2**16


@dataclass(frozen=True, kw_only=True)
class VTGLLMConfig:
    """What one YAML says; paths as they stand in it, relative to the directory of the checkpoint.

    Source: gyxxyg/VTG-LLM ce13f3e, `vtgllm/models/vtgllm.py::from_config`, whose defaults these
    are.
    """

    vit_model: str = ""
    q_former_model: str = ""
    llama_model: str = ""
    """Folder of the decoder before it was trained."""
    ckpt: str = ""
    image_size: int = 224
    num_query_token: int = 32
    max_frame_pos: int = 32
    """Rows of the embedding of frames."""
    max_time_pos: int = 1024
    """Rows of the embedding of seconds."""
    sampler_type: Sampler = "none"
    sample_num: int = 256
    """How many they become; of no meaning with the sampler none."""
    real_time_stamp: bool = False
    """Whether there is an embedding of seconds."""
    special_time_token: bool = False
    """Whether times are spelled in tokens of their own."""
    added_time_token: bool = False
    """Whether the trained file has rows for them; training begins with one that has not."""
    qformer_text_input: bool = False
    """Whether the Q-Former reads a sentence with each frame's time."""
    time_embedding_interpolation: bool = False
    """Whether seconds that training never saw are filled, as the reference does it."""

    @classmethod
    def read(cls, path: Path, *, begins: bool = False) -> VTGLLMConfig:
        """Read a file; one that training `begins` with may add the tokens of times itself."""
        yaml = extras.yaml
        try:
            if not path.is_file():  # of a pipe or a device there is no end
                raise FileNotFoundError(path)
            raw = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise InvalidRequestError(
                f"the part config {path.name} is missing or no YAML; name the file with --part "
                "config=FILE.yaml"
            ) from error
        model = raw.get("model") if isinstance(raw, dict) else None
        if not isinstance(model, dict) or model.get("arch") != _MODEL:
            found = model.get("arch") if isinstance(model, dict) else None
            raise InvalidRequestError(
                f"the part config {path.name}: model.arch must be {_MODEL}, got {shown(found)}"
            )
        return cls._of(model, where=f"the part config {path.name}", begins=begins)

    def write(self, path: Path) -> None:
        """Write a file that `read` takes for the same."""
        fixed = {
            "arch": _MODEL,
            "lora": True,
            "use_video_qformer": False,
            "added_time_token": self.special_time_token,
        }
        path.write_text(extras.yaml.safe_dump({"model": {**asdict(self), **fixed}}), "utf-8")

    @classmethod
    def _of(cls, model: Mapping[str, Any], *, where: str, begins: bool) -> VTGLLMConfig:
        def value(name: str, default: Any) -> Any:
            """Return a value of the default's type, which is that of the reference."""
            found = model.get(name, default)
            kind = type(default)
            if type(found) is not kind or (kind is int and not 0 < found < 2**31):
                kinds = {bool: "True or False", int: "a whole number above 0", str: "text"}
                raise InvalidRequestError(
                    f"{where}: {name} must be {kinds[kind]}, got {shown(found)}"
                )
            return found

        config = cls(**{one.name: value(one.name, one.default) for one in fields(cls)})
        max_text = value("max_txt_len", 32)
        # Nothing of the reference's own runs says what these compute.
        for refused, what in (
            (value("use_video_qformer", True), "use_video_qformer True"),
            (not value("lora", False), "lora False"),
            (value("low_resource", False), "low_resource True"),
            (max_text > _MAX_TEXT, f"max_txt_len {max_text}, which scales the decoder's positions"),
            (
                config.special_time_token and not config.added_time_token and not begins,
                "special_time_token True without added_time_token, as training begins",
            ),
            (
                config.qformer_text_input and not config.special_time_token,
                "qformer_text_input True and no time tokens",
            ),
            (config.max_frame_pos > _MAX_FRAMES, f"max_frame_pos {config.max_frame_pos}"),
            (config.sampler_type not in _SAMPLERS, f"sampler_type {shown(config.sampler_type)}"),
        ):
            if refused:
                raise UnsupportedError(f"{where}: a model with {what} is not served")
        # By its path the reference knows the tower; of another one it makes another model.
        if config.vit_model and "eva_vit_g" not in config.vit_model:
            raise UnsupportedError(
                f"{where}: vit_model must be the path of EVA's file, with eva_vit_g in it, "
                f"got {shown(config.vit_model)}"
            )
        return config
