"""What `groundserve eval qa` looks at before any work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from groundserve.cli._checks import check_input
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.arms import Arm
from groundserve.evaluation.qa.question import BENCHMARKS, Layout, Question
from groundserve.evaluation.qa.reading import file_digest
from groundserve.evaluation.qa.selections import BATCH_RECORDS, Asked
from groundserve.evaluation.qa.spending import Prices
from groundserve.scoring.opener import check_scorer


def parse_arms(names: Sequence[str]) -> list[Arm]:
    """Return the arms named, each once."""
    known: tuple[Arm, ...] = get_args(Arm)
    for name in names:
        if name not in known:
            raise InvalidRequestError(f"--arm must be one of {', '.join(known)}, got {name}")
    return [arm for arm in known if arm in names]


def parse_layout(name: str) -> Layout:
    """Return the layout named."""
    for layout in BENCHMARKS:
        if layout == name:
            return layout
    raise InvalidRequestError(f"--layout must be one of {', '.join(BENCHMARKS)}, got {name}")


def parse_asked(name: str) -> Asked:
    """Return what frames are scored for."""
    for asked in get_args(Asked):
        if asked == name:
            return asked  # type: ignore[no-any-return]  # one of the literals
    raise InvalidRequestError(f"--asked must be one of {', '.join(get_args(Asked))}, got {name}")


def check_set(
    questions: Sequence[Question], *, arms: Sequence[Arm], layout: Layout, subtitles: Path | None
) -> None:
    """Refuse options that the set has no use for.

    Raises:
        InvalidRequestError: Oracle frames are asked for and nothing is labelled, or `--subtitles`
            is no folder, or goes with another benchmark than CG-Bench.
    """
    if "oracle" in arms and not any(question.spans for question in questions):
        raise InvalidRequestError(
            "--arm oracle needs labelled spans, and the set has none (CG-Bench's clue_intervals)"
        )
    if subtitles is not None and (layout != "cgbench" or not subtitles.is_dir()):
        raise InvalidRequestError("--subtitles must be a folder, and goes with --layout cgbench")


def check_counts(**counts: int) -> None:
    """Refuse numbers below 1."""
    for name, count in counts.items():
        if count < 1:
            raise InvalidRequestError(f"{name} must be >= 1, got {count}")


def check_sources(arms: Sequence[Arm], records: Path | None, **sources: Any) -> None:
    """Refuse what selects no frames, without loading or connecting to anything.

    Raises:
        InvalidRequestError: Two sources are given, one is missing, or nothing shows its frames.
        EngineMismatchError: As `check_scorer`.
    """
    given = {name for name, value in sources.items() if value is not None}
    if records is not None:
        if given:
            raise InvalidRequestError(f"give one of --records and --{min(given)}, not both")
        if not records.is_dir():
            check_input(records)
        elif not (records / BATCH_RECORDS).is_file():
            raise InvalidRequestError(
                f"--records {records}: no {BATCH_RECORDS} in it; a batch writes it when it ends"
            )
        given = {"records"}
    if given and "selected" not in arms:
        raise InvalidRequestError(f"--{min(given)} goes with --arm selected")
    check_scorer(**sources)


def parse_prices(price_in: float | None, price_out: float | None) -> Prices | None:
    """Return both prices; None where none is given."""
    if price_in is None and price_out is None:
        return None
    if price_in is None or price_out is None:
        raise InvalidRequestError("--price-in and --price-out go together")
    return Prices(prompt=price_in, completion=price_out)


def selector_name(arms: Sequence[Arm], records: Path | None) -> str | None:
    """Return what the run's fingerprint says of the selector; None where nothing is selected."""
    if "selected" not in arms:
        return None
    if records is None:
        # Which one the folder learns with the first selection.
        return "scored"
    place = records / BATCH_RECORDS if records.is_dir() else records
    return f"records {file_digest(place)}"
