"""A `tokenizer.json` and its configuration, read as transformers 4.40 reads them."""

import json
import re

import pytest
from tokenizers import Tokenizer, decoders, models
from tokenizers.processors import TemplateProcessing

from groundserve.errors import InvalidRequestError, UnsupportedError
from groundserve.tokenizers.tokenizer_json import TokenWriter, read_tokenizer_json

LETTERS = {"<s>": 0, "a": 1, "b": 2, " ": 3, ".": 4}


def written(folder, **config):
    """Write a tokenizer of single characters whose file puts `<s>` in front."""
    tokenizer = Tokenizer(models.BPE(vocab=LETTERS, merges=[]))
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.decoder = decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("config", "ids"),
    [
        pytest.param({}, [0, 1], id="as_the_file_says"),
        pytest.param({"add_bos_token": False}, [0, 1], id="another_class_has_no_such_switch"),
        pytest.param(
            {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "bos_token": "<s>"},
            [1],
            id="off",
        ),
        pytest.param(
            {"tokenizer_class": "LlamaTokenizerFast", "bos_token": {"content": "b"}},
            [2, 1],
            id="on_unless_said",
        ),
        pytest.param({"tokenizer_class": "LlamaTokenizerFast"}, [0, 1], id="by_its_usual_name"),
    ],
)
def test_the_configuration_says_whether_a_beginning_is_put(tmp_path, config, ids):
    assert read_tokenizer_json(written(tmp_path, **config)).encode("a").ids == ids


@pytest.mark.parametrize(("switch", "text"), [({}, "a.b"), ({"set": False}, "a .b")])
def test_spaces_are_cleaned_up_unless_that_is_off(tmp_path, switch, text):
    config = {"clean_up_tokenization_spaces": switch["set"]} if switch else {}
    tokenizer = read_tokenizer_json(written(tmp_path, **config))
    assert TokenWriter(tokenizer).text([0, 1, 3, 4, 2]) == text
    assert TokenWriter(Tokenizer.from_str(tokenizer.to_str())).text([1, 3, 4, 2]) == text


def test_listed_tokens_are_added_with_their_flags(tmp_path):
    listed = {
        "6": {"content": "<y>", "special": True, "rstrip": True},
        "5": {"content": "<x>", "special": False},
    }
    tokenizer = read_tokenizer_json(written(tmp_path, added_tokens_decoder=listed))
    assert tokenizer.encode("<x>a<y>  b").ids == [0, 5, 1, 6, 2]
    assert TokenWriter(tokenizer).text([5, 1, 6, 2]) == "<x>ab"


def test_a_token_under_another_id_is_refused(tmp_path):
    folder = written(tmp_path, added_tokens_decoder={"9": {"content": "<x>"}})
    with pytest.raises(InvalidRequestError, match=r'"<x>" is the token 9, and .* has it as 5'):
        read_tokenizer_json(folder)


def test_an_end_token_is_refused(tmp_path):
    folder = written(tmp_path, tokenizer_class="LlamaTokenizer", add_eos_token=True)
    with pytest.raises(UnsupportedError, match=f"{re.escape(folder.name)}: .* end token"):
        read_tokenizer_json(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [None, "{", '{"version": 5, "added_tokens_decoder": 7}'])
def test_files_that_cannot_be_read_are_refused(tmp_path, name, content):
    folder = written(tmp_path)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content, "utf-8")
    with pytest.raises(InvalidRequestError, match=f"checkpoint {re.escape(folder.name)}: "):
        read_tokenizer_json(folder)
