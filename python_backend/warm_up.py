"""Run each stage once before the first request: kernels load, workspaces and plans are made.

On a GPU the first pass of a size takes seconds longer than the next; on a CPU it does not.
"""

from __future__ import annotations

import numpy as np

from groundserve.families.videoitg.grid import grid_side, pooling_weights
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.limits import Limits
from groundserve.manifest import CHUNK_FRAMES
from groundserve.options import ScoreOptions
from python_backend.encode import VisionEncoder
from python_backend.ground import Grounder

_NUM_TEXT_TOKENS = 100


def warm_up_encoder(encoder: VisionEncoder, model: VideoITGSpec) -> None:
    """Encode a full chunk of a video with the default number of frames."""
    side = model.image_size
    frames = np.zeros((CHUNK_FRAMES, side, side, 3), np.uint8)
    _, grid = _default_video(model)
    encoder.encode(frames, pooling_weights(grid, side=model.side))


def warm_up_grounder(grounder: Grounder, model: VideoITGSpec) -> None:
    """Score the default number of frames for a question of usual length."""
    num_frames, grid = _default_video(model)
    features = np.zeros((num_frames, grid**2, model.vision_hidden_size), np.float32)
    # The checkpoint's maximum may leave less room for text beside the visual tokens.
    room = (model.max_tokens or num_frames * grid**2 + _NUM_TEXT_TOKENS) - num_frames * grid**2
    text_ids = np.full(min(_NUM_TEXT_TOKENS, max(1, room)), model.pad_token_id, np.int64)
    grounder.ground(features, text_ids)


def _default_video(model: VideoITGSpec) -> tuple[int, int]:
    """Return T and g."""
    num_frames = ScoreOptions().most_frames(
        vision_token_num=model.vision_token_num, limits=Limits()
    )
    grid = grid_side(num_frames, vision_token_num=model.vision_token_num, side=model.side)
    return num_frames, grid
