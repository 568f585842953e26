"""A tokenizer of Llama's kind for few words: SentencePiece's file, with bytes for all others."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers.convert_slow_tokenizer import import_protobuf

from groundserve.tokenizers.llama_tokenizer import BEGIN, END, UNKNOWN

_BPE = 2
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


def write_tokenizer(texts: Iterable[str], directory: Path) -> None:
    """Learn the words of texts and write `tokenizer.model`."""
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(),
            # As in Llama's vocabulary, every digit is a token; so is a mark that ends a sentence.
            pre_tokenizers.Split(Regex(r"[0-9?.,:\n]"), behavior="isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=4096, min_frequency=2, show_progress=False)
    learned.train_from_iterator(texts, trainer)
    pieces = sorted(learned.get_vocab().items(), key=lambda item: item[1])
    model = import_protobuf().ModelProto()
    training, normalizer = model.trainer_spec, model.normalizer_spec
    training.model_type, training.byte_fallback = _BPE, True
    normalizer.name = "identity"
    normalizer.remove_extra_whitespaces = False
    for piece, kind in ((UNKNOWN, _UNKNOWN), (BEGIN, _CONTROL), (END, _CONTROL)):
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0.0, type=_BYTE)
    for rank, (piece, _) in enumerate(pieces):  # letters first, then merges in their order
        model.pieces.add(piece=piece, score=float(-rank), type=_NORMAL)
    training.vocab_size = len(model.pieces)
    (directory / "tokenizer.model").write_bytes(model.SerializeToString())


def write_tokenizer_config(directory: Path) -> None:
    """Write what a folder of Llama says of its tokenizer.

    `legacy` is false, as published for Vicuna 1.5: no space is put behind a special token.
    """
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False}
    (directory / "tokenizer_config.json").write_text(json.dumps(config) + "\n", "utf-8")
