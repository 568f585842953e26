"""How alike two captions are: METEOR, CIDEr, ROUGE-L and BLEU, as in COCO's caption evaluation.

Tokenizer (Stanford's, as in the Penn Treebank) and METEOR are programs in Java, which the package
`pycocoevalcap` brings; they are run here and not by its classes, which keep a temporary file in the
package's own folder, and wait forever for a METEOR that has died.

A pair is (hypothesis, reference), both tokenized.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from groundserve import extras
from groundserve.errors import GroundserveError
from groundserve.runtime.closing import Closing

Pair = tuple[str, str]

LANGUAGE_FIGURES = ("meteor", "cider", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4")

_JAVA = "java"
# What a line of input cannot hold: all but ASCII, which the protocol leaves out, its controls, and
# METEOR's mark between two texts.
_NOT_TEXT = re.compile(r"[^ -~]|\|\|\|")


def require_language() -> None:
    """Find out before any work whether `JavaLanguage` could start."""
    _folder("tokenizer")
    if shutil.which(_JAVA) is None:
        raise GroundserveError(
            "the tokenizer of captions and METEOR are programs in Java, and there is no java on "
            "PATH; install a Java runtime, such as Debian's default-jre-headless"
        )


class JavaLanguage(Closing):
    """What COCO's caption evaluation makes of words. To be used as a context."""

    def __init__(self) -> None:
        """Start METEOR, which reads its tables while other things are done."""
        require_language()
        self._stats: dict[Pair, str] = {}
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # until `close`
        self._meteor = subprocess.Popen(
            [_JAVA, "-Xmx2G", "-jar", _jar("meteor"), "-", "-", "-stdio", "-l", "en", "-norm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            encoding="ascii",
        )

    def tokenize(self, captions: Collection[str]) -> Mapping[str, str]:
        """Return each caption's words, lower-cased and without punctuation, a space between two.

        What is not ASCII counts as spaces.
        """
        lines = {caption: _NOT_TEXT.sub(" ", caption).strip() for caption in captions}
        texts = list(dict.fromkeys(filter(None, lines.values())))
        if not texts:
            return dict.fromkeys(lines, "")
        program = "edu.stanford.nlp.process.PTBTokenizer"
        ran = subprocess.run(
            [_JAVA, "-cp", _jar("tokenizer"), program, "-preserveLines", "-lowerCase"],
            input="".join(f"{text}\n" for text in texts),
            capture_output=True,
            text=True,
        )
        tokenized = ran.stdout.splitlines()
        if ran.returncode:
            raise _failed("the tokenizer", ran.stderr)
        if len(tokenized) != len(texts):
            raise _failed("the tokenizer", f"{len(tokenized)} lines for {len(texts)} captions")
        punctuation = _library(".tokenizer.ptbtokenizer").PUNCTUATIONS
        words = {
            text: " ".join(word for word in line.split() if word not in punctuation)
            for text, line in zip(texts, tokenized, strict=True)
        }
        return {caption: words.get(text, "") for caption, text in lines.items()}

    def meteor(self, pairs: Sequence[Pair]) -> tuple[float, list[float]]:
        """Return METEOR of all pairs together, and that of each."""
        self._write(" ||| ".join(["EVAL", *map(self._pair_stats, pairs)]))
        each = [self._read_number() for _ in pairs]
        return self._read_number(), each

    def close(self) -> None:
        """End METEOR."""
        self._meteor.kill()
        self._meteor.wait()
        for pipe in (self._meteor.stdin, self._meteor.stdout, self._stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):  # a line that it did not take is still there
                pipe.close()

    def _pair_stats(self, pair: Pair) -> str:
        """Return the counts that METEOR adds up; comparing takes long, and is done once a pair."""
        if pair not in self._stats:
            hypothesis, reference = pair
            self._write(f"SCORE ||| {reference} ||| {hypothesis}")
            self._stats[pair] = self._read()
        return self._stats[pair]

    def _write(self, line: str) -> None:
        assert self._meteor.stdin is not None
        try:
            self._meteor.stdin.write(f"{line}\n")
            self._meteor.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None

    def _read(self) -> str:
        assert self._meteor.stdout is not None
        line = self._meteor.stdout.readline()
        if not line:
            raise self._ended()
        return line.strip()

    def _read_number(self) -> float:
        line = self._read()
        try:
            return float(line)
        except ValueError:
            raise _failed("METEOR", line) from None

    def _ended(self) -> GroundserveError:
        self._meteor.wait()
        self._stderr.seek(0)
        return _failed("METEOR", self._stderr.read().decode(errors="replace"))


def ngram_scores(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return all `LANGUAGE_FIGURES` but METEOR, of a pair or more together; needs no Java."""
    cider, rouge, bleu = (_library(f".{name}.{name}") for name in ("cider", "rouge", "bleu"))
    if not any(reference for _, reference in pairs):  # CIDEr has no documents to count in
        return dict.fromkeys(LANGUAGE_FIGURES[1:], 0.0)
    hypotheses = {number: [pair[0]] for number, pair in enumerate(pairs)}
    references = {number: [pair[1]] for number, pair in enumerate(pairs)}
    alike, _ = cider.Cider().compute_score(references, hypotheses)
    rouge_l, _ = rouge.Rouge().compute_score(references, hypotheses)
    bleus, _ = bleu.Bleu(4).compute_score(references, hypotheses, verbose=0)
    return dict(zip(LANGUAGE_FIGURES[1:], map(float, (alike, rouge_l, *bleus)), strict=True))


def _failed(program: str, said: str) -> GroundserveError:
    lines = said.strip().splitlines() or ["it said nothing"]
    return GroundserveError(f"{program}, a program in Java, failed: {lines[0]}")


def _jar(part: str) -> str:
    (jar,) = _folder(part).glob("*.jar")
    return str(jar)


def _folder(part: str) -> Path:
    return Path(_library().__path__[0], part)


def _library(module: str = "") -> ModuleType:
    return extras.load(f"pycocoevalcap{module}", "captions")
