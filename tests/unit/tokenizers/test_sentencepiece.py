import shutil

import pytest
from transformers.convert_slow_tokenizer import import_protobuf

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.tokenizers.sentencepiece import read_llama_tokenizer
from tests.support.reference import VICUNA

NORMAL, USER_DEFINED = 1, 4


def copy(folder, change=lambda model: None):
    """Write the recorded checkpoint's tokenizer, changed."""
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(VICUNA / name, folder / name)
    model = import_protobuf().ModelProto()
    model.ParseFromString((VICUNA / "tokenizer.model").read_bytes())
    change(model)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    return folder


def test_a_special_piece_that_is_spelled_is_not_put_together(tmp_path):
    """`<0x41>` in a text is six characters; the piece of this name stands for a byte."""

    def change(model):
        for piece in ("<0x4", "1>", "<0x", "4"):
            model.pieces.add(piece=piece, score=0, type=NORMAL)

    tokenizer = read_llama_tokenizer(copy(tmp_path, change))
    pieces = tokenizer.encode("<0x41>", add_special_tokens=False).tokens
    assert "<0x41>" not in pieces


def set_unigram(model):
    model.trainer_spec.model_type = 1


def add_symbol(model):
    model.pieces.add(piece="<time>", type=USER_DEFINED)


def rename_the_end(model):
    model.pieces[2].piece = "<|end|>"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (set_unigram, "BPE"),
        (add_symbol, "no pieces of other kinds"),
        (rename_the_end, "<unk>, <s> and </s>"),
    ],
)
def test_another_model_is_refused(tmp_path, change, rule):
    with pytest.raises(UnsupportedError, match=r"tokenizer\.model must be as Llama's") as error:
        read_llama_tokenizer(copy(tmp_path, change))
    assert str(error.value).endswith(f"it breaks: {rule}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.model", b"\xff" * 9, r"tokenizer\.model is damaged"),
        ("tokenizer.model", None, r"tokenizer\.model is missing"),
        ("tokenizer_config.json", b"[" * 10**5, r"tokenizer_config\.json is damaged"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, message):
    copy(tmp_path)
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidRequestError, match=f"checkpoint {tmp_path.name}: {message}"):
        read_llama_tokenizer(tmp_path)
