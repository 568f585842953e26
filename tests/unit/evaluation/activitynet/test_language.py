"""Tokenizer and METEOR: as Java runs them, and around a Java that fails."""

import shutil
import sys

import pytest

from groundserve.errors import GroundserveError, MissingExtraError
from groundserve.evaluation.activitynet.language import (
    LANGUAGE_FIGURES,
    JavaLanguage,
    ngram_scores,
    require_language,
)
from tests.unit.evaluation.activitynet.recorded import RecordedLanguage

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")

# Programs in the place of `java`.
METEOR = """
import sys
for line in sys.stdin:
    if line.startswith("SCORE"):
        _, reference, hypothesis = line.rstrip("\\n").split(" ||| ")
        print(len(set(reference.split()) & set(hypothesis.split())), len(hypothesis), flush=True)
    else:
        stats = [tuple(map(float, one.split())) for one in line.split(" ||| ")[1:]]
        for match, length in [*stats, tuple(map(sum, zip(*stats)))]:
            print(match / length, flush=True)
"""
DIES_LATER = """
import sys
sys.stdin.readline()
print("1 2 3", flush=True)
sys.stdin.readline()
sys.exit("Exception in thread main: OutOfMemoryError")
"""
TOKENIZER = """
import sys
for line in sys.stdin:
    print(line.strip().lower().replace(".", " ."))
"""


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Puts a program in the place of `java`."""

    def put(tokenizer=TOKENIZER, meteor=METEOR):
        for name, text in (("tokenizer", tokenizer), ("meteor", meteor)):
            (tmp_path / f"{name}.py").write_text(text, "utf-8")
        script = tmp_path / "java"
        script.write_text(
            f"#!/bin/sh\ncase $1 in -cp) part=tokenizer;; *) part=meteor;; esac\n"
            f'exec {sys.executable} -S "{tmp_path}/$part.py"\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    return put


@pytest.fixture(scope="module")
def language():
    """Takes seconds to start."""
    with JavaLanguage() as language:
        yield language


@needs_java
def test_java_says_what_is_recorded(language):
    recorded = RecordedLanguage()
    assert language.tokenize(recorded.words) == recorded.words
    for pairs, (together, each) in recorded.scores.items():
        assert language.meteor(pairs) == (together, each)


@needs_java
def test_java_takes_any_text(language):
    words = {
        "": "",
        " ": "",
        "...": "",
        "Caf\u00e9\tau lait\r\nis $3.50!": "caf au lait is $ 3.50",
        "a ||| b": "a b",
        "\x00\x1b[1m": "-lsb- 1m",
        "It's 8-bit": "it 's 8-bit",
    }
    assert language.tokenize(words) == words
    together, each = language.meteor([("a b", "a b"), ("", "a b"), ("a b", ""), ("", "")])
    assert each == [1, 0, 0, 0]
    assert 0 < together < 1


def test_words_have_no_punctuation(java):
    java()
    with JavaLanguage() as language:
        assert language.tokenize(["A Dog.", "A Dog.", "r\u00e9al", "!"]) == {
            "A Dog.": "a dog",
            "r\u00e9al": "r al",
            "!": "",
        }
        assert language.tokenize(["\u00e9"]) == {"\u00e9": ""}


@pytest.mark.parametrize(
    ("meteor", "message"),
    [
        pytest.param(DIES_LATER, "METEOR.*OutOfMemoryError", id="amid"),
        pytest.param("", "METEOR.*it said nothing", id="silently"),
    ],
)
def test_a_meteor_that_dies_is_an_error(java, meteor, message):
    java(meteor=meteor)
    with JavaLanguage() as language, pytest.raises(GroundserveError, match=message):
        language.meteor([("a", "b"), ("c", "d")])


def test_without_the_extra(monkeypatch):
    for module in [name for name in sys.modules if name.startswith("pycocoevalcap.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pycocoevalcap", None)
    for needs in (require_language, lambda: ngram_scores([("a", "b")])):
        with pytest.raises(MissingExtraError, match=r"groundserve\[captions\]"):
            needs()


def test_ngram_scores():
    same = ("a dog runs fast", "a dog runs fast")
    other = ("it sleeps on grass", "it sleeps on grass")
    scores = ngram_scores([same, other])
    assert list(scores) == list(LANGUAGE_FIGURES[1:])
    assert scores["cider"] == pytest.approx(10)
    assert [scores[name] for name in ("rouge_l", "bleu_1", "bleu_4")] == pytest.approx([1] * 3)
    # A document that is the only one tells no word from another.
    assert ngram_scores([same])["cider"] == 0
