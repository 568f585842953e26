"""The sets that stages 1 to 3 are trained on, and how they lie on the disk when downloaded.

The paths in a JSON record file start from its own folder, in which archives hold the media.

Sources, read without the sets at hand: the Hub's file lists and the card of LLaVA-Video-178K, whose
configs name the patterns below; the features in the card of LLaVA-NeXT-Data, which lmms-lab
published in the same way as LLaVA-OneVision-Data; the data preparation of LooperXX/LLaVA-OV-Manager
for `images.zip` and for the subsets with archives; for where videos lie, the folders in the README
of StreamVLN (OpenRobotLab/StreamVLN).
"""

from __future__ import annotations

from dataclasses import dataclass

from train.config import Stage


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """One set."""

    stage: Stage
    records: tuple[str, ...]
    """Glob patterns below the download: Parquet with images inside, or JSON lists."""


SETS = {
    # huggingface.co/datasets/liuhaotian/LLaVA-Pretrain
    "llava-pretrain": PublishedSet(
        stage="projector",
        records=("blip_laion_cc_sbu_558k.json",),
    ),
    # huggingface.co/datasets/lmms-lab/LLaVA-OneVision-Data
    "llava-onevision": PublishedSet(
        stage="images",
        # A few subsets (ureader_kg, ureader_qa, cambrian) are a list and archives instead.
        records=("**/*.parquet", "*/*_processed.json"),
    ),
    # huggingface.co/datasets/lmms-lab/LLaVA-Video-178K
    "llava-video": PublishedSet(
        stage="video",
        # The card's splits "multi_choice" and "open_ended"; captions are its third.
        records=("*/*mc*.json", "*/*oe*.json"),
    ),
}
"""By the name on the command line."""
