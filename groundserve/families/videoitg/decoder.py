"""The grounding stage: projector, Qwen2 with full attention, mean over a frame's tokens, head.

Shape letters: T frames, P = g*g tokens a frame, D_v vision width, L text tokens, D decoder width.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Qwen2Config, Qwen2Model

from groundserve.errors import EngineMismatchError
from groundserve.families.modules import GroundingModule
from groundserve.families.videoitg.config import QWEN2_KEYS, CheckpointConfig


class GroundingModel(GroundingModule):
    """One relevance logit for each frame.

    Source: NVlabs/VideoITG fab8b54,
    `eagle/model/language_model/grounding_qwen2.py::EagleQwenG.forward`,
    `eagle/model/eagle_archv1.py::EagleMetaForCausalLM.prepare_inputs_labels_for_multimodal`,
    `eagle/model/multimodal_projector/mlp_proj.py`.
    """

    def __init__(self, config: CheckpointConfig) -> None:
        super().__init__()
        self.vision_hidden_size = config.mm_hidden_size
        width = config.hidden_size
        self.projector = nn.Sequential(
            nn.Linear(config.mm_hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.decoder = Qwen2Model(_qwen2_config(config))
        self.config = self.decoder.config
        self.head = nn.Linear(width, 1)

    @property
    def layers(self) -> nn.ModuleList:
        """Layers that hold attention."""
        return cast(nn.ModuleList, self.decoder.layers)

    def forward(self, features: Tensor, text_ids: Tensor) -> Tensor:
        """Score the frames of one video, (T, P, D_v), for one question, int64 (L,), L >= 0.

        Return float32 (T,), before the sigmoid.
        """
        num_frames, tokens_per_frame, _ = features.shape
        num_visual = num_frames * tokens_per_frame
        visual = self.projector(features).reshape(1, num_visual, -1)  # frame-major
        # (1, L, D)
        text = self.decoder.embed_tokens(text_ids).unsqueeze(0)
        # Both arguments are needed: a mapping skips the causal mask that transformers would
        # build, and is_causal=False keeps its attention function from falling back to one.
        hidden_states = self.decoder(
            inputs_embeds=torch.cat([visual, text], dim=1),
            attention_mask={"full_attention": None},
            is_causal=False,
            use_cache=False,
        ).last_hidden_state
        # (T, P, D): the text's states are not used.
        per_frame = hidden_states[0, :num_visual].reshape(num_frames, tokens_per_frame, -1)
        # In float32 whatever the decoder's dtype: logits of 8 bits would tie.
        logits = F.linear(
            per_frame.mean(dim=1, dtype=torch.float32),
            self.head.weight.to(torch.float32),
            self.head.bias.to(torch.float32),
        )
        # (T, 1) -> (T,)
        return logits.squeeze(1)


def _qwen2_config(config: CheckpointConfig) -> Qwen2Config:
    qwen2 = Qwen2Config(
        **{name: getattr(config, name) for name in QWEN2_KEYS},
        hidden_act="silu",
        use_cache=False,
        use_sliding_window=False,
        # There is no LM head here to share the table with.
        tie_word_embeddings=False,
    )
    # Never materialises the T x T scores of all tokens, where a fused kernel exists.
    qwen2._attn_implementation = "sdpa"
    return qwen2


_PROJECTOR = "projector."
_TABLE = "decoder.embed_tokens.weight"


def write_embeddings(model: GroundingModel, path: Path) -> None:
    """Write projector and table of a model, in the dtype they have."""
    tensors = {
        name: tensor.contiguous()
        for name, tensor in model.state_dict().items()
        if name.startswith(_PROJECTOR) or name == _TABLE
    }
    save_file(tensors, path)
    # safetensors leaves it to its owner alone; a server may run as somebody else.
    path.chmod(0o644)


def read_embeddings(path: Path, *, device: str) -> tuple[nn.Sequential, nn.Embedding]:
    """Read projector (D_v -> D) and table (ids -> D), ready to run on a device."""
    try:
        tensors = load_file(path, device=device)
        table = tensors.pop(_TABLE)
        # (D, D_v): a Linear's weight has its outputs first.
        width, vision_width = tensors[f"{_PROJECTOR}0.weight"].shape
        with torch.device("meta"):
            # The projector of `GroundingModel`, whose names the file has.
            projector = nn.Sequential(
                nn.Linear(vision_width, width), nn.GELU(), nn.Linear(width, width)
            )
        weights = {name.removeprefix(_PROJECTOR): tensor for name, tensor in tensors.items()}
        projector.load_state_dict(weights, assign=True)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise EngineMismatchError(
            f"{path.name} is missing or damaged; rebuild the engine directory with: "
            "groundserve build"
        ) from error
    num_tokens, _ = table.shape
    # `_weight`: the table as it is, without a random one made first.
    embed_tokens = nn.Embedding(num_tokens, width, _weight=table)
    return projector.eval().requires_grad_(False), embed_tokens.requires_grad_(False)
