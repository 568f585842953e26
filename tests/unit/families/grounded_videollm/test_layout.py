"""Finding the parts of a checkpoint in the reference's weight folder."""

from __future__ import annotations

import re
import shutil

import pytest

from groundserve.errors import InvalidRequestError
from groundserve.families.grounded_videollm.layout import find_parts, is_layout
from tests.unit.families.grounded_videollm.checkpoints import WEIGHTS, copied
from tests.unit.families.grounded_videollm.recorded import LLMS

TUNED = "sft_llava_next_video_{}_mix_sft_multi_modal_projector_video_projecter_language_model.pth"
BASES = {"phi3.5": "Phi-3.5-vision-instruct", "llama3": "llama3-llava-next-8b"}


@pytest.fixture
def phi_alone(tmp_path):
    weights = copied(tmp_path)
    shutil.rmtree(weights / "llama3-llava-next-8b-seperated")
    return weights


@pytest.mark.parametrize("llm", LLMS)
def test_all_parts_are_found_where_the_reference_names_them(llm):
    parts = find_parts(WEIGHTS, {"llm": [llm]})
    base = WEIGHTS / f"{BASES[llm]}-seperated"
    assert (parts.llm, parts.base, parts.clip) == (llm, base, base / "vision_model.pth")
    assert parts.checkpoint == WEIGHTS / "ckpt" / TUNED.format(llm)
    assert parts.internvideo.parent == WEIGHTS / "internvideo"
    assert parts.decoder_config == base / "language_model_seperated" / "config.json"
    assert parts.model_config == WEIGHTS / BASES[llm] / "config.json"
    assert parts.newlines.is_file()
    assert (parts.tokenizer / "tokenizer.json").is_file()
    assert parts.angles == "float32"
    (other,) = set(LLMS) - {llm}
    assert set(parts.left_aside) == {f"{BASES[other]}-seperated", f"ckpt/{TUNED.format(other)}"}


def test_other_places_are_not_of_the_layout(tmp_path):
    assert not is_layout(tmp_path)
    assert not is_layout(tmp_path / "nowhere")
    (tmp_path / "Phi-3.5-vision-instruct-seperated").write_text("no folder")
    assert not is_layout(tmp_path)
    with pytest.raises(InvalidRequestError, match="it has folders of no decoder; choose with"):
        find_parts(tmp_path, {})


@pytest.mark.parametrize(
    ("gone", "part"),
    [
        ("internvideo", "internvideo"),
        ("Phi-3.5-vision-instruct-seperated/vision_model.pth", "clip"),
    ],
)
def test_a_missing_part_is_named_and_what_was_found(phi_alone, gone, part):
    path = phi_alone / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    message = rf"parts of grounded_videollm are missing: {part} \(.*\); found: .*--part {part}=PATH"
    with pytest.raises(InvalidRequestError, match=message):
        find_parts(phi_alone, {})


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("ckpt/sft_other_phi3.5_model.pth", "checkpoint"),
        ("internvideo/again.pt", "internvideo"),
    ],
)
def test_of_several_files_one_must_be_chosen(phi_alone, file, part):
    (phi_alone / file).write_bytes(b"")
    message = rf"the part {part} may be .*, .*; choose with --part {part}=PATH"
    with pytest.raises(InvalidRequestError, match=message):
        find_parts(phi_alone, {})
    assert getattr(find_parts(phi_alone, {part: [file]}), part) == phi_alone / file


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"angles": ["float16"]}, "the part angles must be float32 or bfloat16, got float16"),
        ({"clip": ["/nowhere"]}, "the part clip is vision_model.pth, in the base; there is nothi"),
        ({"internvideo_heads": []}, "the part internvideo_heads must be one whole number above 0"),
    ],
)
def test_parts_that_are_named_wrongly_are_refused(given, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)):
        find_parts(WEIGHTS, {"llm": ["phi3.5"], **given})


@pytest.mark.parametrize("text", ["", '{"angles": 16}'], ids=["nothing", "a number"])
def test_a_copy_that_no_longer_says_how_it_was_opened_is_refused(tmp_path, text):
    """Opened by what is found, it would answer otherwise than it did."""
    weights = copied(tmp_path)
    (weights / "groundserve_parts.json").write_text(text)
    message = r"groundserve_parts\.json must hold texts by the names llm, angles, clip_heads, inter"
    with pytest.raises(InvalidRequestError, match=message):
        find_parts(weights, {"llm": ["phi3.5"]})
