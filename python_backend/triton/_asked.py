"""OPTIONS and QUERY of a request, read as the head of the engines takes them."""

from __future__ import annotations

from collections.abc import Callable

from groundserve.limits import Limits
from groundserve.options import AnswerOptions, ScoreOptions, parse_answer_options, parse_options
from python_backend.answers import Prompts
from python_backend.engine import EngineDirectory
from python_backend.features import Asked
from python_backend.ground import Questions
from python_backend.triton._tensors import Tensors, read_optional_text, read_queries

ReadAsked = Callable[[Tensors], tuple[ScoreOptions | AnswerOptions, Asked | None]]
"""Returns the options, and what is asked: None where a model is called without questions."""


def open_reader(engine: EngineDirectory, limits: Limits) -> ReadAsked:
    """Return what reads the two for these engines; it raises InvalidRequestError.

    Args:
        engine: Of either head.
        limits: Ceilings on options and questions.
    """
    if engine.manifest.head == "text":
        return _text_reader(engine, limits)
    return _frames_reader(engine, limits)


def _frames_reader(engine: EngineDirectory, limits: Limits) -> ReadAsked:
    tokenizer, model = engine.open_tokenizer(), engine.manifest.model

    def read(tensors: Tensors) -> tuple[ScoreOptions, Questions | None]:
        options = parse_options(read_options_text(tensors, limits), limits=limits)
        if "QUERY" not in tensors:
            return options, None
        queries = read_queries(tensors, limits)
        return options, Questions.parse(queries, tokenizer=tokenizer, model=model, limits=limits)

    return read


def _text_reader(engine: EngineDirectory, limits: Limits) -> ReadAsked:
    tokenizer, model = engine.open_answer_tokenizer(), engine.manifest.model
    family = engine.manifest.text_seam

    def read(tensors: Tensors) -> tuple[AnswerOptions, Prompts | None]:
        options = parse_answer_options(read_options_text(tensors, limits), limits=limits)
        if "QUERY" not in tensors:
            return options, None
        queries = read_queries(tensors, limits)
        prompts = Prompts.parse(
            queries, options, family=family, tokenizer=tokenizer, model=model, limits=limits
        )
        return options, prompts

    return read


def read_options_text(tensors: Tensors, limits: Limits) -> str:
    """Return OPTIONS, "" where the request leaves it out.

    Raises:
        InvalidRequestError: As `read_optional_text`.
    """
    return read_optional_text(tensors, "OPTIONS", max_bytes=limits.max_options_bytes) or ""
