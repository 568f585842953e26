"""Read a checkpoint in the reference's layout: config, tokenizer, sharded safetensors.

The vision tower's weights come from a separate SigLIP directory where one is given or stands
beside the checkpoint (that is what the reference loads), else from the checkpoint's own copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Qwen2TokenizerFast

from groundserve import extras
from groundserve.errors import InvalidRequestError, UnavailableError, UnsupportedError
from groundserve.families.base import FindingRow
from groundserve.families.videoitg.config import KNOWN_TOWERS, CheckpointConfig, VisionConfig
from groundserve.families.videoitg.decoder import GroundingModel
from groundserve.families.videoitg.grid import grid_side
from groundserve.families.videoitg.plan import VideoITGSpec
from groundserve.families.videoitg.vision import VisionEncoder
from groundserve.options import DEFAULT_NUM_FRAMES
from groundserve.weights.checkpoint_place import HUB_ID, find_checkpoint, read_note
from groundserve.weights.tensors import directory_sha256, filled_module, read_json, read_tensors

_VISION_PREFIX = "model.vision_tower.vision_tower.vision_model."
_TOWER_PREFIX = "vision_model."
# Name in the reference's files -> name in our modules; the first prefix that fits counts.
_PREFIXES = {
    "model.mm_projector.out_projection.": "projector.",
    "model.": "decoder.",
    "out_proj.": "head.",
    "lm_head.": "lm_head.",  # only before stage 4 of training
}
# No pickled weights (`*.bin`), whose loading runs code.
_HUB_FILES = ["*.json", "*.safetensors", "merges.txt"]
# A checkpoint may say something about itself that every answer repeats.
# A tokenizer is in either.
_TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An opened checkpoint; weights are read when a module is asked for."""

    directory: Path
    tower_directory: Path | None
    """SigLIP directory, or None to take the checkpoint's own copy."""
    name: str
    """Directory name or hub id, as given."""
    raw_config: dict[str, Any]
    config: CheckpointConfig
    vision_config: VisionConfig
    """Config of the whole tower."""

    @classmethod
    def open(cls, name: str | Path, *, vision_tower: str | Path | None = None) -> Checkpoint:
        """Open a local directory or a hub id; see the module for its `vision_tower`."""
        directory = _local_directory(name)
        opened = cls.with_config(
            directory, read_json(directory / "config.json"), vision_tower=vision_tower
        )
        # The cache's directory is named by a commit; the hub's name says more in a manifest.
        return replace(opened, name=str(name)) if HUB_ID.fullmatch(str(name)) else opened

    @classmethod
    def with_config(
        cls, directory: Path, raw_config: dict[str, Any], *, vision_tower: str | Path | None = None
    ) -> Checkpoint:
        """Open a local directory by a config that may differ from the one it holds."""
        config = CheckpointConfig.from_dict(raw_config)
        tower = _find_tower(directory, config, vision_tower)
        vision_config = _vision_config(tower, config)
        if tower is not None:
            _check_processor(tower, vision_config)
        if vision_config.hidden_size != config.mm_hidden_size:
            raise UnsupportedError(
                f"the vision tower is {vision_config.hidden_size} wide, config.json says "
                f"mm_hidden_size {config.mm_hidden_size}; give the right --vision-tower"
            )
        return cls(
            directory=directory,
            tower_directory=tower,
            name=directory.name,
            raw_config=raw_config,
            config=config,
            vision_config=vision_config,
        )

    def load_vision(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> VisionEncoder:
        """Read the vision tower up to the layer that is used."""
        select_layer = self.config.mm_vision_select_layer
        with torch.device("meta"):
            model = VisionEncoder(self.vision_config, select_layer=select_layer)
        found = self.tower_tensors()
        # The layers behind the selected one, the final norm and the head are left out.
        wanted = model.state_dict().keys() & found.keys()
        tensors = {name: found[name].to(device, dtype) for name in wanted}
        return filled_module(model, tensors, device)

    def tower_tensors(self) -> dict[str, Tensor]:
        """Return every tensor of the vision tower by its name inside it, used or not."""
        if self.tower_directory is None:
            return vision_tensors(self.directory, in_tower=False)
        return vision_tensors(self.tower_directory, in_tower=True)

    def load_grounding(
        self, *, dtype: torch.dtype = torch.float32, device: str = "cpu"
    ) -> GroundingModel:
        """Read projector, decoder and head."""
        with torch.device("meta"):
            model = GroundingModel(self.config)
        tensors = model_tensors(self.directory, dtype=dtype, device=device)
        return filled_module(model, tensors, device)

    def load_tokenizer(self) -> tuple[Tokenizer, int]:
        """Return the tokenizer with every special token registered, and its padding id.

        Registering matters: the reference's training leaves `!` behind as padding token, and then
        every `!` is split off and becomes one special id.
        """
        # Without them transformers makes a tokenizer that knows no word, and says nothing.
        if not any(
            all((self.directory / name).is_file() for name in names) for names in _TOKENIZER_FILES
        ):
            raise InvalidRequestError(
                f"checkpoint {self.directory.name}: tokenizer.json is missing; download it "
                "completely"
            )
        try:
            tokenizer = Qwen2TokenizerFast.from_pretrained(self.directory, local_files_only=True)
        except Exception as error:  # what `tokenizers` raises is no narrower
            raise InvalidRequestError(
                f"checkpoint {self.directory.name}: the tokenizer's files are damaged; download "
                "them again"
            ) from error
        pad_token_id = tokenizer.pad_token_id
        if pad_token_id is None:
            pad_token_id = tokenizer.eos_token_id
        if pad_token_id is None:
            raise UnsupportedError("the tokenizer has neither a padding nor an end token")
        return tokenizer.backend_tokenizer, int(pad_token_id)

    def model_spec(self, *, pad_token_id: int) -> VideoITGSpec:
        """Return what serving must know."""
        return VideoITGSpec(
            image_size=self.vision_config.image_size,
            side=self.vision_config.side,
            vision_hidden_size=self.config.mm_hidden_size,
            vision_token_num=self.config.vision_token_num,
            max_tokens=self.config.tokenizer_model_max_length,
            pad_token_id=pad_token_id,
        )

    def findings(self) -> Iterator[FindingRow]:
        """Yield budget and grid, padding, projector, and whose vision weights are used."""
        budget, side = self.config.vision_token_num, self.vision_config.side
        grid = grid_side(min(DEFAULT_NUM_FRAMES, budget), vision_token_num=budget, side=side)
        tokens = f"{grid * grid} tokens a frame at {DEFAULT_NUM_FRAMES} frames ({grid} x {grid})"
        yield "vision_token_num", "ok", f"{budget}: {tokens}"
        tokenizer, pad_token_id = self.load_tokenizer()
        pad = tokenizer.id_to_token(pad_token_id)
        detail = f"{pad!r} (id {pad_token_id})"
        if pad == "!":
            detail += ": every ! in a question is split off and dropped, as the reference does"
        yield "padding token", "warn" if pad == "!" else "ok", detail
        side_setting = self.raw_config.get("tokenizer_padding_side", "right")
        yield "padding side", "ok", f"{side_setting}; one question at a time is never padded"
        yield "projector", "ok", str(self.raw_config.get("mm_projector_type"))
        yield self._vision_weights()

    @property
    def folders(self) -> dict[str, Path]:
        """The checkpoint, and the tower where it lies apart."""
        folders = {"checkpoint": self.directory}
        return folders | ({"vision_tower": self.tower_directory} if self.tower_directory else {})

    def vision_flop(self) -> float:
        """Return the arithmetic of the vision stage for one frame; a multiply-add is 2."""
        num_layers = self.vision_config.num_layers_used(self.config.mm_vision_select_layer)
        return self.vision_config.frame_flop(num_layers)

    def decoder_flop(self, num_tokens: int) -> float:
        """Return the arithmetic of one pass through the decoder's layers."""
        return self.config.decoder_flop(num_tokens)

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding table."""
        return self.config.vocab_size

    def describe(self) -> dict[str, Any]:
        """Return name, note and hashes for a manifest; reads every file once."""
        tower = self.tower_directory
        return {
            "name": self.name,
            "note": read_note(self.directory),
            "sha256": directory_sha256(self.directory),
            "vision_weights": "checkpoint" if tower is None else tower.name,
            "vision_sha256": None if tower is None else directory_sha256(tower),
        }

    def _vision_weights(self) -> FindingRow:
        """Compare the checkpoint's own copy of the tower with the separate one."""
        if self.tower_directory is None:
            return "vision weights", "ok", "from the checkpoint's own copy; no separate tower given"
        own = vision_tensors(self.directory, in_tower=False)
        tower = self.tower_tensors()
        pairs = [(own[name], tower[name]) for name in own.keys() & tower.keys()]
        if not pairs:
            return "vision weights", "ok", "from the separate tower; the checkpoint has no copy"
        if all(torch.equal(one, other) for one, other in pairs):
            detail = f"checkpoint and tower agree in all {len(pairs)} tensors"
            return "vision weights", "ok", detail
        half = torch.bfloat16
        if all(torch.equal(one.to(half), other.to(half)) for one, other in pairs):
            return "vision weights", "ok", "the checkpoint's are the tower's rounded to bfloat16"
        return "vision weights", "warn", "the checkpoint's differ from the tower's"


def vision_tensors(directory: Path, *, in_tower: bool) -> dict[str, Tensor]:
    """Return the tensors of a SigLIP tower by their names inside it.

    `directory` is the tower's own where `in_tower`, else a checkpoint.
    """
    prefix = _TOWER_PREFIX if in_tower else _VISION_PREFIX
    tensors = read_tensors(directory, lambda name: name.startswith(prefix))
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors}
    if in_tower and not found:  # transformers 5 saves a tower alone without the prefix
        return dict(read_tensors(directory, lambda name: True))
    return found


def model_tensors(
    directory: Path, *, dtype: torch.dtype = torch.float32, device: str = "cpu", copy: bool = False
) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint but the tower's, by the names in our modules.

    Also reads a plain Qwen2 directory: decoder and LM head have the same names there. A name that
    none of our modules has is kept as it is. Without `copy` tensors that have this dtype already
    are the file mapped into memory, at whatever alignment it gives them.
    """
    tensors = read_tensors(directory, lambda name: not name.startswith(_VISION_PREFIX))
    return {_our_name(name): tensor.to(device, dtype, copy=copy) for name, tensor in tensors}


def reference_names(vision: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put tensors of tower and model under the names that the reference's files use."""
    tensors = {_VISION_PREFIX + name: tensor for name, tensor in vision.items()}
    for name, tensor in model.items():
        theirs, ours = next(
            (theirs, ours) for theirs, ours in _PREFIXES.items() if name.startswith(ours)
        )
        tensors[theirs + name.removeprefix(ours)] = tensor
    return tensors


def tower_names(vision: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a tower's tensors under the names that its own directory uses."""
    return {_TOWER_PREFIX + name: tensor for name, tensor in vision.items()}


def _local_directory(name: str | Path) -> Path:
    directory = find_checkpoint(name)
    if directory is not None:
        return directory
    hub = extras.huggingface_hub
    try:
        return Path(hub.snapshot_download(str(name), allow_patterns=_HUB_FILES))
    except (hub.errors.HFValidationError, hub.errors.RepositoryNotFoundError) as error:
        raise InvalidRequestError(
            f"checkpoint {name}: no such directory, and the hub has no model of that id, or none "
            "that you may read; correct the id, or log in with: hf auth login"
        ) from error
    except OSError as error:  # the hub's other errors are of this kind
        cause = error.__cause__ if isinstance(error, hub.errors.LocalEntryNotFoundError) else None
        reason = str(cause or error).partition("\n")[0]
        raise UnavailableError(
            f"checkpoint {name}: no such directory, and not to be had from the hub: {reason}"
        ) from error


def _find_tower(
    directory: Path, config: CheckpointConfig, vision_tower: str | Path | None
) -> Path | None:
    if vision_tower is not None:
        return _local_directory(vision_tower)
    name = Path(config.mm_vision_tower).name
    # The reference loads the tower from the hub; a copy in either place stands for it.
    for candidate in (directory / name, directory.parent / name):
        if (candidate / "config.json").is_file():
            return candidate
    return None


def _vision_config(tower: Path | None, config: CheckpointConfig) -> VisionConfig:
    if tower is not None:
        return VisionConfig.from_dict(read_json(tower / "config.json"))
    name = Path(config.mm_vision_tower).name
    if name not in KNOWN_TOWERS:
        raise InvalidRequestError(
            f"the checkpoint does not hold the config of its vision tower {name}; "
            "give its directory with --vision-tower"
        )
    return KNOWN_TOWERS[name]


def _check_processor(tower: Path, vision_config: VisionConfig) -> None:
    """Refuse an image processor that differs from the one built into the engines."""
    path = tower / "preprocessor_config.json"
    if not path.is_file():
        return
    raw = read_json(path)
    size = vision_config.image_size
    expected = {
        "size": {"height": size, "width": size},
        # Pillow's number for bicubic.
        "resample": 3,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    for key, value in expected.items():
        if raw.get(key, value) != value:
            raise UnsupportedError(
                f"{path.name}: {key} must be {value}, got {raw[key]}; groundserve resizes with "
                "Pillow's bicubic filter to a square and normalises to [-1, 1]"
            )


def _our_name(name: str) -> str:
    for theirs, ours in _PREFIXES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name
