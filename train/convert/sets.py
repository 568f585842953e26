"""The sets that stages 1 to 3 are trained on, and how they lie on the disk when downloaded.

Of each folder with records the archives beside them are unpacked. The paths in a record file start
from its own folder.

Sources: the record files' and archives' names from the Hub's cards and file lists of
liuhaotian/LLaVA-Pretrain, lmms-lab/LLaVA-OneVision-Data and lmms-lab/LLaVA-Video-178K as others
quote them (LooperXX/LLaVA-OV-Manager's data preparation for the first two); written without the
sets at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

from train.config import Stage


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """One set."""

    hub_name: str
    """Where it is published, on huggingface.co."""
    stage: Stage
    """Which stage reads it."""
    records: tuple[str, ...]
    """Glob patterns below the download: Parquet with images inside, or JSON lists."""


SETS = {
    "llava-pretrain": PublishedSet(
        hub_name="liuhaotian/LLaVA-Pretrain",
        stage="projector",
        records=("blip_laion_cc_sbu_558k.json",),
    ),
    "llava-onevision": PublishedSet(
        hub_name="lmms-lab/LLaVA-OneVision-Data",
        stage="images",
        # A few subsets (ureader_kg, ureader_qa, cambrian) are a list and archives instead.
        records=("**/*.parquet", "*/*_processed.json"),
    ),
    "llava-video": PublishedSet(
        hub_name="lmms-lab/LLaVA-Video-178K",
        stage="video",
        # The card's splits "multi_choice" and "open_ended"; captions are its third.
        records=("*/*mc*.json", "*/*oe*.json"),
    ),
}
"""By the name on the command line."""
