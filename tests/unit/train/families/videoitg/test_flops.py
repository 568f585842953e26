"""The arithmetic of a sample, held against the published sizes and against torch's own count."""

import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.support import published
from tests.support.reference import REPOSITORY
from tests.unit.train.runs import make_config, make_example
from train.families.videoitg.family import open_initial
from train.families.videoitg.models import encode_frames
from train.families.videoitg.samples import grid_choices, sample_flops
from train.families.videoitg.stages import grounding

RELEASED, TOWER = published.VIDEOITG, published.SO400M
PATHS = {name: Path(name) for name in ("init", "records", "media_root", "out")}


@pytest.mark.parametrize("stage", ["grounding", "video"])
def test_torch_counts_the_same_forward_pass(tmp_path, stage):
    config = make_config(tmp_path, stage=stage, auxiliary_weight=0.0)
    initial = open_initial(config, num_auxiliary=0)
    whole = make_example(3)
    text = whole.texts[0]
    example = replace(whole, texts=(text,))
    features = encode_frames(initial.vision, [example])
    # torch's counter does not know the fused kernel of a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        initial.model([example], features)
    model, num_frames = initial.checkpoint.config, len(example.frames)
    num_visual = example.num_visual_tokens
    projector_flops = (
        2 * num_visual * model.hidden_size * (model.mm_hidden_size + model.hidden_size)
    )
    outputs = num_frames  # a logit each
    if stage == "video":
        outputs = int((text.targets != -100).sum()) * model.vocab_size
    # torch counts the whole square under a causal mask too.
    trunk = model.decoder_flop(num_visual + len(text.ids) - 1)
    expected = projector_flops + trunk + 2 * outputs * model.hidden_size
    assert counter.get_total_flops() == expected


def test_the_documented_epoch():
    """docs/train.md, the time of stage 4: 120 frames, 100 tokens of text, all grids drawn."""
    grids = grid_choices(120, vision_token_num=16384, vision_min_num=1, side=27)
    costs = [
        sample_flops(
            grounding(**PATHS),
            RELEASED,
            TOWER,
            num_frames=120,
            tokens_per_frame=grid**2,
            num_text_tokens=100,
        )
        for grid in grids
    ]
    decoder = statistics.mean(cost.decoder for cost in costs) / 4 / 1e12
    tower = costs[0].tower / 1e12
    epoch = 474_354 * (4 * decoder + tower) * 1e12
    hours = epoch / (8 * 989e12 * 0.4) / 3600
    text = " ".join((REPOSITORY / "docs" / "train.md").read_text("utf-8").split())
    assert f"{epoch:.1e} FLOP: {hours:.0f} hours on 8 H100".replace("e+", "e") in text
