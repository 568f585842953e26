"""What training writes of a family that answers in text is what Triton serves, in every profile."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine_build import build
from groundserve import AnswerOptions, Client
from tests.triton.serve import serve
from tests.unit.train.runs import read_data, run
from tests.unit.train.text_runs import FIXTURES, make_config
from train.examples import IGNORE_INDEX, Text
from train.families import find_family
from train.families.language import splice
from train.state import SavedWeights

NUM_NEW = 8
OPTIONS = AnswerOptions(task="chat", max_new_tokens=NUM_NEW)
# Two ways to decode, encode and attend, float32 on both sides: contenders for a place that lie
# closer may change theirs.
GAP = 2e-3
WAYS = {"torch": {"profile": "torch"}, "cpu": {}, "int4": {"precision": "int4"}}
CLIPS = {
    "vtimellm-3": FIXTURES / "vtimellm" / "videos" / "portrait_57.mp4",
    "grounded-videollm-sft llama3": FIXTURES / "grounded_videollm" / "clips" / "short_50f.mp4",
    "vtgllm-instruct": FIXTURES / "vtgllm" / "clips" / "short_41f.mp4",
}
QUESTION = "Explain what happens."
# Of each family what a record consists of: its video, its conversation, the video's place.
KEYS = {
    "vtimellm-3": ("video", "conversations", "<video>"),
    "grounded-videollm-sft llama3": ("video_file", "conversation", "<image>"),
    "vtgllm-instruct": ("video", "conversations", ""),
}


@pytest.fixture(scope="module", params=CLIPS)
def trained(request, tmp_path_factory):
    """A run of a family's last stage on one video, its config and its checkpoint."""
    stage, folder = request.param, tmp_path_factory.mktemp("trained")
    shutil.copy(CLIPS[stage], folder / "a.mp4")
    video, conversation, placeholder = KEYS[stage]
    messages = [
        {"from": "human", "value": f"{placeholder}\n{QUESTION}"},
        {"from": "gpt", "value": "A man rides a bike."},
    ]
    record = {"id": "a", video: "a.mp4", conversation: messages}
    if stage.startswith("vtgllm"):
        record |= {"QA": [{"q": QUESTION, "a": messages[1]["value"]}]}
    (folder / "records.json").write_text(json.dumps([record]))
    config = make_config(stage, folder / "run")
    data = replace(config.data, records=folder / "records.json", media_root=folder)
    if stage.startswith("grounded"):
        data = replace(data, max_frames=96)  # as served
    rates = replace(config.optimizer, learning_rate=1e-3)
    config = replace(config, data=data, optimizer=rates, max_steps=4)
    run(config)
    chosen = {name: [str(one)] for name, one in vars(config.parts).items() if one is not None}
    return config, chosen, folder / "a.mp4"


def next_logits(model, example, features, ids):
    row = splice(
        model.decoder.embed_tokens, Text(ids=np.array(ids)), model.visual(example, features)
    )[1]
    told = model.positions(len(row))
    states = model.decoder(inputs_embeds=row[None], use_cache=False, **told).last_hidden_state
    return model.lm_head(states[0, -1])


def trainers_answer(config, prompt):
    """Return prompt, greedy tokens and the gaps to the next ones, by the trainer's own model.

    VTG-LLM is trained with another prompt than it is served with, which it is given here, and
    its decoder is served in bfloat16's values.
    """
    initial = find_family(None, config.stage).open_initial(config, num_auxiliary=0)
    model = initial.model.eval()
    model.load_state_dict(dict(SavedWeights(config.out / f"checkpoint-{config.max_steps}")))
    is_vtgllm = config.stage.startswith("vtgllm")
    if is_vtgllm:
        for one in (*model.decoder.parameters(), *model.lm_head.parameters()):
            one.data = one.data.to(torch.bfloat16).to(torch.float32)
    with read_data(config, initial) as data, torch.no_grad():
        (example,) = [reading.example for reading in data.readings([0])]
        (features,) = initial.encode([example])
        text = example.texts[0]
        if not is_vtgllm:
            prompt = text.ids[: int((text.targets != IGNORE_INDEX).argmax())].tolist()
        ids, gaps = list(prompt), []
        for _ in range(NUM_NEW):
            best = next_logits(model, example, features, ids).topk(2)
            gaps.append(float(best.values[0] - best.values[1]))
            ids.append(int(best.indices[0]))
    return prompt, ids[len(prompt) :], gaps


def test_triton_answers_as_the_trainer(trained, tmp_path):
    config, parts, video = trained
    expected = None
    for way, how in WAYS.items():
        build(config.out / "final", tmp_path / way, parts=parts, **how)
        with (
            serve(tmp_path / way, tmp_path / f"{way}.log", allowed_roots=[video.parent]) as server,
            Client(f"grpc://{server.triton.grpc_address}") as client,
        ):
            (answer,) = client.ask(video, QUESTION, OPTIONS).answers
        served = answer.prompt_token_ids.tolist()
        if expected is None:
            prompt, expected, gaps = trainers_answer(config, served)
            assert min(gaps) > GAP
        assert served == prompt, way
        # In int4 weights are others; how far, `build` has checked itself.
        assert way == "int4" or answer.token_ids.tolist() == expected, way
        assert 0 < len(answer.token_ids) <= NUM_NEW
