"""From a training set as it is published to records and media that `train.data` reads.

    report = convert("llava-video", Path("downloads/LLaVA-Video-178K"), Path("data/llava-video"))

    data/llava-video/records.json        for `data.records`
    data/llava-video/media/              for `data.media_root`
    data/llava-video/bad_records.jsonl   what was left out: file, record, rule

Nothing is decoded or encoded anew: images and videos are the published bytes.
"""

from train.convert.run import SETS, PublishedSet, Report, convert

__all__ = ["SETS", "PublishedSet", "Report", "convert"]
