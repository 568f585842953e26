"""Weights by stage: one file of what was trained, and what it lacks from the files before it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from groundserve.errors import InvalidRequestError
from groundserve.families.llama import is_llama_weight
from groundserve.families.vtgllm.config import VTGLLMConfig
from groundserve.families.vtgllm.eva import EvaConfig, renamed_tower, tower_of_file
from groundserve.families.vtgllm.layout import Parts
from groundserve.weights.lora import Adapter, split_state_dict
from groundserve.weights.torch_archive import read_torch_file

_INSIDE = "model"
"""Under which name the trained file and InstructBLIP's have their tensors, where beside others."""
_TOWER = "visual_encoder."
_Q_FORMER = "Qformer.bert."
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
"""The decoder's tensors with a row for each token."""

_DECODER = "llama_model."
WRAPPED = "llama_model.base_model.model."
"""Before each name of the decoder's that PEFT wraps."""
RANK, ALPHA = 32, 32
"""Of the adapter, which the file does not say."""
ADAPTED = ("q_proj", "k_proj", "v_proj", "o_proj")
_SECONDS = "video_time_position_embedding"
_VISION = (_TOWER, "ln_vision.", "Qformer.", "query_tokens")
_FRONT = ("llama_proj.", "sampler.", "video_frame_position_embedding.", _SECONDS)
_OF_THE_MODEL = (*_VISION, *_FRONT, WRAPPED)
# As older files have them, each wherever it stands in a name.
_RENAMED = (
    ("vision_encoder", "visual_encoder"),
    ("qformer", "Qformer"),
    ("vision_layernorm", "ln_vision"),
)
# Of the Q-Former's, what a sentence needs.
_TEXT = re.compile(
    r"Qformer\.bert\.(embeddings\.(word|position)_embeddings"
    r"|encoder\.layer\.\d+\.(intermediate|output))\..+"
)
_UNREAD = re.compile(r"Qformer\.(cls\..+|bert\.embeddings\.position_ids)")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedState:
    """The tensors of the trained file, mapped into memory, by the reference's names."""

    vision: Mapping[str, Tensor]
    """Tensors of the vision stage, all of them or some."""
    front: Mapping[str, Tensor]
    decoder: Mapping[str, Tensor]
    """Tensors of the decoder, by transformers' names, all of them or some."""
    adapter: Adapter
    left_aside: tuple[str, ...]
    """Names of what the model that the YAML describes has no use for."""

    @classmethod
    def open(cls, parts: Parts) -> TrainedState:
        """Read the names; of tensors what is small.

        A file without rows for the tokens of times, with which training begins, may lack anything
        else as well, and hold what the model has not: it is Video-LLaMA's.
        """
        where = f"the part checkpoint {parts.checkpoint.name}"
        config = parts.config
        tensors = dict(_renamed(read_torch_file(parts.checkpoint, inside=_INSIDE)))
        begins = config.special_time_token and not config.added_time_token
        left_aside = {
            name
            for name in tensors
            if _is_unused(name, config) or (begins and not name.startswith(_OF_THE_MODEL))
        }
        stages: dict[str, dict[str, Tensor]] = {"vision": {}, "front": {}, "decoder": {}}
        for name, tensor in tensors.items():
            if name in left_aside or _UNREAD.fullmatch(name) or not is_llama_weight(name):
                continue
            stages[_stage(name, where)][name] = tensor
        decoder: dict[str, Tensor] = {}
        adapter = Adapter(name=parts.checkpoint.name, scale=ALPHA / RANK, targets=(), pairs={})
        if stages["decoder"] or not begins:
            decoder, adapter = split_state_dict(
                _wrapped(stages["decoder"], config),
                name=parts.checkpoint.name,
                prefix=WRAPPED,
                rank=RANK,
                alpha=ALPHA,
            )
        for name in (EMBEDDING, HEAD) if config.added_time_token else ():
            if name not in decoder:
                raise InvalidRequestError(
                    f"{where}: {name} is missing, and what stands for the time tokens with it; "
                    "give the file of a model that was trained with them"
                )
        # As the reference reads the decoder, whatever the file holds.
        pairs = {
            name: (a.to(torch.bfloat16), b.to(torch.bfloat16))
            for name, (a, b) in adapter.pairs.items()
        }
        return cls(
            vision=stages["vision"],
            front=stages["front"],
            decoder=decoder,
            adapter=replace(adapter, pairs=pairs, targets=ADAPTED),
            left_aside=tuple(sorted(left_aside)),
        )


def read_eva_config(parts: Parts, trained: TrainedState) -> EvaConfig:
    """Read the tower's sizes."""
    where, tower = f"the part checkpoint {parts.checkpoint.name}", _tower_of(trained.vision)
    if not tower:
        where, tower = f"the part eva {parts.eva.name}", tower_of_file(read_torch_file(parts.eva))
    return EvaConfig.from_tensors(tower, where=where, num_heads=parts.eva_heads)


def read_vision_tensors(
    parts: Parts, trained: TrainedState, names: AbstractSet[str]
) -> dict[str, Tensor]:
    """Return tensors by the names of `VisionEncoder`, whose own are `names`.

    What was trained goes before the other files, each of which is read only where something is
    missing still. What is trained beside is returned, too, so that it is told.
    """
    found = _our_names(trained.vision)
    if missing := names - found.keys():
        of_file = tower_of_file(read_torch_file(parts.eva))
        tower = _our_names({_TOWER + name: tensor for name, tensor in of_file.items()})
        found |= {n: t for n, t in tower.items() if n in missing}
    if missing := names - found.keys():
        older = _our_names(read_torch_file(parts.q_former, inside=_INSIDE))
        found |= {n: t for n, t in older.items() if n in missing}
    return found


def _tower_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tower's tensors, by the names of its own file."""
    return {n.removeprefix(_TOWER): t for n, t in tensors.items() if n.startswith(_TOWER)}


def _our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {_TOWER + name: tensor for name, tensor in renamed_tower(_tower_of(tensors))}
    for name, tensor in tensors.items():
        if name.startswith(_Q_FORMER):
            # What transformers calls the inner module as the outer one.
            own = name.removeprefix(_Q_FORMER).replace("attention.self.", "attention.attention.")
            found[f"q_former.{own}"] = tensor
        elif not name.startswith(_TOWER):
            found[name] = tensor
    return found


def _renamed(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        for old, new in _RENAMED:
            name = name.replace(old, new)
        yield name, tensor


def _is_unused(name: str, config: VTGLLMConfig) -> bool:
    if name == _SECONDS:
        return not config.real_time_stamp
    return not config.qformer_text_input and _TEXT.fullmatch(name) is not None


def _stage(name: str, where: str) -> str:
    for stage, prefixes in (("vision", _VISION), ("front", _FRONT), ("decoder", (_DECODER,))):
        if name.startswith(prefixes):
            return stage
    raise InvalidRequestError(
        f"{where}: it has {name[:120]}, which the model of the YAML has not; give files that "
        "belong together"
    )


def _wrapped(tensors: Mapping[str, Tensor], config: VTGLLMConfig) -> dict[str, Tensor]:
    """Return the decoder's, those with a row for each token by the names that PEFT gives them."""
    wrapped = dict(tensors)
    for name in (EMBEDDING, HEAD) if config.special_time_token else ():
        bare = wrapped.pop(_DECODER + name, None)
        if bare is not None:  # before one that has the name
            wrapped[WRAPPED + name] = bare
    return wrapped
