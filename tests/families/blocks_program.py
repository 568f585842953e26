"""Build a family of three blocks and ask it, on the tree that this Python finds first.

python blocks_program.py FOLDER CHECKPOINT VIDEO QUERY: FOLDER gets the engine directory `cpu`, and
`said.json` with the tokens of each engine and of transformers alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

from engine_build import build
from groundserve import Pipeline
from groundserve.families.blocks import FAMILY
from groundserve.options import AnswerOptions
from groundserve.runtime.deadline import Deadline
from groundserve.scoring.gate import check_engines

OPTIONS = AnswerOptions(task="chat", max_new_tokens=6)


def expected(checkpoint: Path, features: np.ndarray, prompt_ids: list[int], own: bool) -> tuple:
    """Return what transformers picks, each step anew over the whole sequence, and last logits."""
    opened = FAMILY.open_checkpoint(checkpoint)
    decoder = opened.load_decoder()
    blocks = iter(opened.load_front()(torch.from_numpy(features)).chunk(3))
    embed = decoder.get_input_embeddings()
    rows = [next(blocks) if one < 0 else embed(torch.tensor([one])) for one in prompt_ids]
    places = [place for place, row in enumerate(rows) for _ in row]
    embeds, tokens = torch.cat(rows)[None], []
    while len(tokens) < OPTIONS.max_new_tokens and tokens[-1:] != [opened.end_token_id]:
        ids = torch.tensor([places if own else range(len(places))])
        mask = torch.ones_like(ids)
        logits = decoder(inputs_embeds=embeds, position_ids=ids, attention_mask=mask).logits[0, -1]
        tokens.append(int(logits.argmax()))
        embeds = torch.cat([embeds, embed(torch.tensor([tokens[-1:]]))], dim=1)
        places.append(places[-1] + 1)
    return tokens, logits[:4].tolist()


def main(folder: Path, checkpoint: Path, video: Path, query: str) -> None:
    build(checkpoint, folder / "cpu", profile="cpu", family="blocks")
    check_engines(folder / "cpu", checkpoint, family="blocks")
    said = {}
    openers = {
        "cpu": lambda: Pipeline.open(folder / "cpu"),
        "torch": lambda: Pipeline.from_checkpoint(checkpoint, family="blocks"),
    }
    for name, open_pipeline in openers.items():
        with open_pipeline() as pipeline:
            answer = pipeline.ask(video, query, OPTIONS).answers[0]
            extracted = pipeline.features(video, OPTIONS, deadline=Deadline.after(60))
        said[name] = answer.token_ids.tolist()
        said["prompt"] = answer.prompt_token_ids.tolist()
    features = np.asarray(extracted.features)
    said["shape"] = features.shape
    with torch.inference_mode():
        for name in ("own", "counted"):
            said[name] = expected(checkpoint, features, said["prompt"], name == "own")
    (folder / "said.json").write_text(json.dumps(said), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]), sys.argv[4])
