"""`groundserve eval qa` and `qa-table`: questions that a Video-LLM answers from chosen frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from groundserve.cli._checks import check_input
from groundserve.cli._options import AsJson, Seed, grouped
from groundserve.cli._output import print_json, print_note, progress
from groundserve.cli.eval_tables import print_paper_table, print_qa_report
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.qa.answering import Outcome, answer_questions
from groundserve.evaluation.qa.arms import Arm
from groundserve.evaluation.qa.endpoint import Endpoint
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.question import BENCHMARKS, Layout, Question
from groundserve.evaluation.qa.reading import file_digest, find_videos, read_questions
from groundserve.evaluation.qa.report import (
    MeasuredRun,
    QaReport,
    make_paper_table,
    make_qa_report,
)
from groundserve.evaluation.qa.run_folder import RunFolder, read_run
from groundserve.evaluation.qa.selections import (
    BATCH_RECORDS,
    Asked,
    RecordedSelector,
    ScoringSelector,
    Selector,
)
from groundserve.evaluation.qa.spending import Budget, Prices
from groundserve.evaluation.qa.tasks import PictureOptions, Setup
from groundserve.scoring.opener import check_scorer, open_scorer
from groundserve.strict_json import parse_object

_FRAMES_RULE = "linspace over the file, rule B at most 512 scored, oracle inside spans"
_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, kw_only=True)
class QaOptions:
    """The options of `eval qa`."""

    questions: Annotated[
        Path, typer.Argument(help="Records: a JSON list, JSON Lines or Parquet.", metavar="SET")
    ]
    layout: Annotated[
        str, typer.Option(help="Whose records: videomme, mlvu, longvideobench or cgbench.")
    ]
    media_root: Annotated[Path, typer.Option(help="Folder that the records' videos start from.")]
    out: Annotated[Path, typer.Option(help="Folder that keeps the answers; goes on with a run.")]
    endpoint: Annotated[
        str, typer.Option(help="OpenAI-compatible endpoint, up to /v1: http://HOST:PORT/v1.")
    ]
    model: Annotated[str, typer.Option(help="The Video-LLM, as the endpoint calls it.")]
    arm: Annotated[
        list[str],
        typer.Option(help="uniform, selected, oracle or none (text alone). Give it for each."),
    ] = ("uniform", "selected")  # type: ignore[assignment]  # a list cannot be a field's default
    top_k: Annotated[int, typer.Option(help="Frames that each arm shows at most.")] = 32
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Select with PyTorch: checkpoint directory, hub id, or digits."),
    ] = None
    engines: Annotated[
        Path | None, typer.Option(help="Select in this process with an engine directory.")
    ] = None
    server: Annotated[
        str | None, typer.Option(help="Select on a running server: grpc://HOST:PORT.")
    ] = None
    records: Annotated[
        Path | None,
        typer.Option(help="Frames selected before: records (JSONL), or a folder of a batch."),
    ] = None
    asked: Annotated[
        str,
        typer.Option(help="What frames are scored for: the whole prompt, or the question alone."),
    ] = "prompt"
    subtitles: Annotated[
        Path | None, typer.Option(help="Folder of VIDEO.srt files, for CG-Bench's prompt.")
    ] = None
    skip_missing: Annotated[
        bool,
        typer.Option("--skip-missing", help="Leave out, and count, videos that are not there."),
    ] = False
    set_name: Annotated[
        str | None, typer.Option(help="What tables call the set; the benchmark's name if absent.")
    ] = None
    longest_side: Annotated[
        int, typer.Option(help="Pixels that a frame's longer side is shrunk to; 0: none.")
    ] = 768
    quality: Annotated[int, typer.Option(help="Of the frames' JPEGs, 1 to 95.")] = 90
    body: Annotated[
        str | None,
        typer.Option(help="JSON object of fields to add to each request; null removes one."),
    ] = None
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the API key, if there is one.")
    ] = "OPENAI_API_KEY"
    concurrency: Annotated[int, typer.Option(help="Questions asked at one time.")] = 8
    max_attempts: Annotated[int, typer.Option(help="Tries for one question.")] = 5
    timeout_seconds: Annotated[float, typer.Option(help="Longest silence of one try.")] = 120.0
    price_in: Annotated[
        float | None, typer.Option(help="Price of a million prompt tokens, in any currency.")
    ] = None
    price_out: Annotated[
        float | None, typer.Option(help="The same of a million tokens of replies.")
    ] = None
    max_cost: Annotated[
        float | None, typer.Option(help="Stop when all answers of the run cost as much.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(help="Stop when all answers of the run took as many tokens.")
    ] = None
    seed: Seed = 0
    as_json: AsJson = False

    @property
    def arms(self) -> list[Arm]:
        """The arms, in their usual order."""
        known: tuple[Arm, ...] = get_args(Arm)
        named = {_one_of("--arm", name, known) for name in self.arm}
        return [arm for arm in known if arm in named]

    @property
    def known_layout(self) -> Layout:
        """The layout, which is one of those that there are."""
        return _one_of("--layout", self.layout, tuple(BENCHMARKS))

    @property
    def prices(self) -> Prices | None:
        """What tokens cost, where that is given."""
        if self.price_in is not None and self.price_out is not None:
            return Prices(prompt=self.price_in, completion=self.price_out)
        if self.price_in is not None or self.price_out is not None:
            raise InvalidRequestError("--price-in and --price-out go together")
        return None

    @property
    def lines(self) -> Path | None:
        """The file of --records."""
        if self.records is None or not self.records.is_dir():
            return self.records
        return self.records / BATCH_RECORDS

    def endpoint_options(self) -> EndpointOptions:
        """Return how the endpoint is asked."""
        return EndpointOptions(
            url=self.endpoint,
            model=self.model,
            max_tokens=BENCHMARKS[self.known_layout].max_tokens,
            api_key=os.environ.get(self.api_key_env) or None,
            body={} if self.body is None else parse_object(self.body, "--body"),
            max_attempts=self.max_attempts,
            timeout_seconds=self.timeout_seconds,
        )

    def parts(self, endpoint: EndpointOptions) -> dict[str, Any]:
        """Return what decides the answers, by name."""
        selector = None
        if "selected" in self.arms:
            # Which scorer it is the folder learns with the first selection.
            selector = "scored" if self.lines is None else f"records {file_digest(self.lines)}"
        return {
            "layout": self.layout,
            "name": self.set_name or BENCHMARKS[self.known_layout].title,
            "set": file_digest(self.questions),
            "model": self.model,
            "arms": sorted(self.arms),
            "top_k": self.top_k,
            "frames": _FRAMES_RULE,
            "selector": selector,
            "asked": self.asked,
            "has_subtitles": self.subtitles is not None,
            "longest_side": self.longest_side,
            "quality": self.quality,
            "request": endpoint.request([]),
        }


@grouped
def command(*, given: QaOptions) -> None:
    """Ask a Video-LLM the same questions about uniform, selected and oracle frames.

    Answers are kept in --out; the same command goes on where an earlier one
    ended, and asks nothing twice. Ends with 1 while questions are left.
    docs/evaluate.md has the rules and the layouts.

    Example: [bold]groundserve eval qa test.parquet --layout videomme --media-root videos
    --endpoint http://127.0.0.1:8000/v1 --model my-video-llm
    --engines videoitg-gpu --out qa-videomme[/bold]
    """
    _check(given)
    budget = Budget(max_cost=given.max_cost, max_tokens=given.max_tokens, prices=given.prices)
    endpoint = given.endpoint_options()
    the_set, setup = _read_set(given)
    parts = given.parts(endpoint)
    with ExitStack() as stack, progress("reading the questions") as step:
        run = stack.enter_context(RunFolder(given.out, parts, the_set))
        selector = _open_selector(stack, given, setup.questions, run.selections, step)
        chat = stack.enter_context(Endpoint(endpoint, max_connections=given.concurrency))
        outcome = answer_questions(
            replace(setup, selector=selector),
            endpoint=chat,
            run=run,
            num_threads=given.concurrency,
            budget=budget,
            on_video=lambda number, total: step(f"asking about video {number} of {total}"),
        )
        step("estimating intervals")
        keys = {question.key for question in setup.questions}
        report = make_qa_report(
            setup.questions,
            [answer for answer in run.answers.values() if answer.key in keys],
            arms=setup.arms,
            prices=given.prices,
            seed=given.seed,
        )
    skipped = {
        "num_videos": len({it.video for it in the_set}) - len(setup.videos),
        "num_questions": len(the_set) - len(setup.questions),
    }
    _print_notes(outcome, report, skipped, run.engine)
    if given.as_json:
        print_json(
            {
                "run": parts,
                "report": report.as_dict(),
                "failures": dict(outcome.failures),
                "is_budget_spent": outcome.is_budget_spent,
                "skipped": skipped,
                "engine": run.engine,
            }
        )
    else:
        print_qa_report(parts, report)
    if report.num_left:
        raise typer.Exit(1)


def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders that `eval qa` wrote.")],
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Put runs of several benchmarks and models into one table; asks nothing.

    Example: [bold]groundserve eval qa-table qa-longvideobench qa-mlvu qa-videomme
    qa-cgbench[/bold]
    """
    require_seed(seed)
    measured = []
    for folder in runs:
        run = read_run(folder)
        report = make_qa_report(run.questions, run.answers, arms=run.parts["arms"], seed=seed)
        if report.num_left:
            print_note(f"{folder}: {report.num_left} answers are missing and count nowhere")
        measured.append(MeasuredRun(parts=run.parts, report=report))
    paper = make_paper_table(measured)
    if as_json:
        print_json(
            {
                "table": asdict(paper),
                "runs": [{"run": it.parts, "report": it.report.as_dict()} for it in measured],
            }
        )
    else:
        print_paper_table(paper, measured)


def _check(given: QaOptions) -> None:
    """Look at all options before anything is read, loaded or asked."""
    require_seed(given.seed)
    arms, layout = given.arms, given.known_layout
    for name in ("top_k", "concurrency"):
        if getattr(given, name) < 1:
            raise InvalidRequestError(f"{name} must be >= 1, got {getattr(given, name)}")
    names = ("checkpoint", "engines", "server")
    named = {name for name in names if getattr(given, name) is not None}
    if given.records is not None and given.lines is not None:
        if named:
            raise InvalidRequestError(f"give one of --records and --{min(named)}, not both")
        if given.lines != given.records and not given.lines.is_file():
            raise InvalidRequestError(
                f"--records {given.records}: no {BATCH_RECORDS} in it; a batch writes it when it "
                "ends"
            )
        check_input(given.lines)
        named = {"records"}
    if named and "selected" not in arms:
        raise InvalidRequestError(f"--{min(named)} goes with --arm selected")
    check_scorer(given.checkpoint, given.engines, given.server)
    if given.subtitles is not None and not (layout == "cgbench" and given.subtitles.is_dir()):
        raise InvalidRequestError("--subtitles must be a folder, and goes with --layout cgbench")
    _one_of("--asked", given.asked, get_args(Asked))
    check_input(given.questions)


def _read_set(given: QaOptions) -> tuple[Sequence[Question], Setup]:
    """Return all questions of the set, and what is to be asked about the videos that are there."""
    pictures = PictureOptions(longest_side=given.longest_side or None, quality=given.quality)
    questions = read_questions(given.questions, layout=given.known_layout)
    if "oracle" in given.arms and not any(question.spans for question in questions):
        raise InvalidRequestError(
            "--arm oracle needs labelled spans, and the set has none (CG-Bench's clue_intervals)"
        )
    videos = find_videos(questions, given.media_root, skip_missing=given.skip_missing)
    return questions, Setup(
        questions=[question for question in questions if question.video in videos],
        videos=videos,
        arms=given.arms,
        num_frames=given.top_k,
        pictures=pictures,
        selector=None,
        subtitles=given.subtitles,
    )


def _open_selector(
    stack: ExitStack,
    given: QaOptions,
    questions: Sequence[Question],
    selections: Mapping[str, Any],
    step: Callable[[str], None],
) -> Selector | None:
    """Open what selects frames; None where the folder knows all that is selected."""
    if "selected" not in given.arms or all(it.key in selections for it in questions):
        return None
    if given.lines is not None:
        return RecordedSelector(given.lines, questions, num_selected=given.top_k)
    asked: Asked = _one_of("--asked", given.asked, get_args(Asked))
    step("loading the selector")
    scorer = stack.enter_context(open_scorer(given.checkpoint, given.engines, given.server))
    return ScoringSelector(scorer, questions, num_selected=given.top_k, asked=asked)


def _one_of(option: str, name: str, known: Sequence[_Choice]) -> _Choice:
    for choice in known:
        if choice == name:
            return choice
    raise InvalidRequestError(f"{option} must be one of {', '.join(known)}, got {name}")


def _print_notes(
    outcome: Outcome,
    report: QaReport,
    skipped: Mapping[str, int],
    engine: Mapping[str, Any] | None,
) -> None:
    if skipped["num_videos"]:
        print_note(
            "{num_videos} videos are missing: {num_questions} questions skipped".format(**skipped)
        )
    for kind, count in outcome.failures.items():
        print_note(f"{count} failed ({kind}), the first: {outcome.first_messages[kind]}")
    if outcome.is_budget_spent:
        print_note("stopped at --max-cost or --max-tokens")
    if report.num_left:
        print_note(f"{report.num_left} answers are missing; the same command asks for them again")
    if engine and engine.get("note"):
        print_note(engine["note"])
