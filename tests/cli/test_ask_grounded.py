"""The command line over a checkpoint in two streams that the reference ran: asked and examined."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from torch import Tensor

from groundserve.batch.engines import EngineSource
from groundserve.options import AnswerOptions
from tests.cli import recorded
from tests.cli.command import part_options, run_cli
from tests.cli.recorded import ask, doctor
from tests.cli.steps import assert_one_error
from tests.support.batch_rows import answer_rows
from tests.support.grounded_cases import CASES, MAX_NEW_TOKENS, PARTS, WEIGHTS

FAMILY = ("--family", "grounded_videollm")


def check(case, found):
    recorded.check(case, found, num_sure=case.num_sure(1e-4))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_recorded_cases_in_pytorch(case, clips):
    found = ask(case, clips, *FAMILY, "--checkpoint", WEIGHTS, *part_options(PARTS[case.model]))
    check(case, found)
    assert (found["family"], found["engine"]["profile"]) == ("grounded_videollm", "torch")


WIDTH = 32
"""Of both recorded towers."""


def repeated(tensor: Tensor, times: int) -> Tensor:
    """Return a tower's tensor with every channel so many times: what it computes stays the same.

    Norms see the same mean and square, and each head stands there so many times.
    """
    if tensor.shape[0] == 3 * WIDTH:  # queries, keys and values in one
        return torch.cat([repeated(one, times) for one in tensor.chunk(3)])
    if tensor.ndim == 2 and tensor.shape[1] == WIDTH and tensor.shape[0] < 577:  # no positions
        tensor = tensor / times
    return tensor.repeat([times if size == WIDTH else 1 for size in tensor.shape])


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A folder with the recorded Phi-3.5 and wider towers, described as the published model is."""
    folder = tmp_path_factory.mktemp("wide")
    weights = shutil.copytree(WEIGHTS, folder / "weight_path")
    base = weights / "Phi-3.5-vision-instruct-seperated"
    (tuned,) = (weights / "ckpt").glob("sft_*_phi3.5_*.pth")
    (internvideo,) = (weights / "internvideo").glob("*.pt")

    def rewrite(path, change):
        torch.save(change(torch.load(path, weights_only=True)), path)

    def projectors(state):
        # In float32: a third is not exact in 16 bits.
        model = {name: {**part} for name, part in state["model"].items()}
        spatial, temporal = model["multi_modal_projector"], model["video_projecter"]
        patches = spatial["linear_0.weight"].float().unflatten(1, (4, WIDTH))
        spatial["linear_0.weight"] = patches.repeat(1, 1, 3).flatten(1) / 3
        temporal["up_proj.weight"] = repeated(temporal["up_proj.weight"].float(), 2)
        return {"model": model}

    rewrite(base / "vision_model.pth", lambda state: {n: repeated(t, 3) for n, t in state.items()})
    rewrite(internvideo, lambda state: {n: repeated(t, 2) for n, t in state.items()})
    rewrite(
        base / "image_newlines.pth",
        lambda state: {
            n: t.unflatten(-1, (4, WIDTH)).tile(3).flatten(-2) for n, t in state.items()
        },
    )
    rewrite(tuned, projectors)
    config = base / "language_model_seperated" / "config.json"
    raw = json.loads(config.read_text("utf-8"))
    raw["rope_scaling"]["type"] = "su"
    config.write_text(json.dumps(raw), "utf-8")
    return folder


def test_a_checkpoint_as_published_with_wider_towers_answers_as_the_recorded(
    wide, clips, monkeypatch, tmp_path
):
    """And its engine directory, which is not told again how many heads the towers have."""
    monkeypatch.chdir(wide)
    # Of which the answer begins with the one list of frequencies and ends with the other.
    case = next(case for case in CASES if case.name == "phi3.5/qa_crosses_4096")
    source = (*FAMILY, "--checkpoint", "weight_path", "--part", "llm=phi3.5")
    source = (*source, "--part", "clip_heads=12", "--part", "internvideo_heads=8")
    check(case, ask(case, clips, *source))
    built = run_cli("build", *source, "--profile", "torch", "--out", tmp_path / "engines")
    assert built.code == 0, built.stderr
    check(case, ask(case, clips, "--engines", tmp_path / "engines"))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"internvideo_heads": ["8"]}, "width 96 has; give their number with --part clip_heads=N"),
        ({"clip_heads": ["4", "5"]}, 'clip_heads must be one whole number above 0, got "4, 5"'),
        ({"eva_heads": ["4"]}, "--part must name one of llm, checkpoint, internvideo, clip, base"),
    ],
    ids=str,
)
def test_heads_that_are_not_said_or_impossible_are_refused(wide, clips, parts, message):
    finished = run_cli(
        *("ask", clips["bikes"], *FAMILY, "--checkpoint", wide / "weight_path", "--query", "x"),
        *("--part", "llm=phi3.5", *part_options(parts)),
    )
    assert finished.code == 2
    assert_one_error(finished.stderr, message)


@pytest.mark.parametrize(("model", "task"), [("phi3.5", "referring"), ("llama3", "question")])
def test_recorded_cases_with_engines(model, task, clips, grounded_engines):
    case = next(case for case in CASES if (case.model, case.task) == (model, task))
    found = ask(case, clips, "--engines", grounded_engines(model))
    check(case, found)
    assert found["engine"]["profile"] == "cpu"


def test_a_moment_is_asked_for_in_the_references_words(clips, grounded_engines):
    case = next(case for case in CASES if case.task == "moment")
    description = case.query.split("'")[1]
    finished = run_cli(
        *("ask", case.path(clips), "--engines", grounded_engines(case.model)),
        *("--query", description, "--max-new-tokens", MAX_NEW_TOKENS),
    )
    assert finished.code == 0, finished.stderr
    first, *lines = finished.stdout.splitlines()
    assert first.endswith("; saw 96 frames, in segments of 8")
    assert case.text in lines
    assert "0:00.9  0:06.6" in finished.stdout.replace("   ", "  ")


def test_a_batch_has_the_same_answers(clips, tmp_path):
    """A row of each task."""
    cases = [case for case in CASES if case.model == "phi3.5"][:3]
    source = EngineSource(
        checkpoint=str(WEIGHTS), head="text", family="grounded_videollm", parts=PARTS["phi3.5"]
    )
    assert source.identity(AnswerOptions())["family"] == "grounded_videollm"
    rows = [
        {
            "id": case.name,
            "video": str(case.path(clips)),
            "query": case.query,
            "options": json.loads(case.options.to_json()),
        }
        for case in cases
    ]
    found = answer_rows(source, rows, tmp_path)
    assert {case.query: case.token_ids for case in cases} == {
        query: answer.token_ids.tolist() for query, answer in found.items()
    }
    assert {case.task for case in cases} == {"moment", "question", "referring"}


def test_of_two_decoders_one_is_to_be_named(clips):
    finished = run_cli("ask", clips["bikes"], *FAMILY, "--checkpoint", WEIGHTS, "--query", "x")
    assert finished.code == 2
    assert_one_error(finished.stderr, "--part llm=")


def test_doctor_says_what_it_found():
    found = doctor("--checkpoint", WEIGHTS, *FAMILY, *part_options(PARTS["phi3.5"]))
    assert found["family"] == ("grounded_videollm; a long video gives 96 frames, in segments of 8")
    # Those for times are tokens as any other.
    assert "<300>" not in found["special tokens"]
    assert found["vocabulary"] == "793 tokens, 846 embedding rows"
