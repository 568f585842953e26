"""`groundserve eval qa`: multiple-choice questions, answered by a Video-LLM from chosen frames."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from groundserve.cli._checks import check_input
from groundserve.cli._output import print_json, print_note, progress
from groundserve.cli.eval_qa_checks import (
    check_counts,
    check_set,
    check_sources,
    parse_arms,
    parse_asked,
    parse_layout,
    parse_prices,
    selector_name,
)
from groundserve.cli.eval_qa_tables import print_qa_report
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.qa.answering import Outcome, answer_questions
from groundserve.evaluation.qa.endpoint import Endpoint
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.pictures import PictureOptions
from groundserve.evaluation.qa.question import BENCHMARKS
from groundserve.evaluation.qa.reading import file_digest, find_videos, read_questions
from groundserve.evaluation.qa.report import make_qa_report
from groundserve.evaluation.qa.run_folder import RunFolder
from groundserve.evaluation.qa.selections import (
    RecordedSelector,
    ScoringSelector,
    Selector,
)
from groundserve.evaluation.qa.spending import Budget
from groundserve.evaluation.qa.tasks import Setup
from groundserve.scoring.opener import open_scorer
from groundserve.strict_json import parse_object

NAME = "qa"

_FRAMES_RULE = "linspace over the file, rule B at most 512 scored, oracle inside spans"


def command(
    questions: Annotated[
        Path, typer.Argument(help="Records: a JSON list, JSON Lines or Parquet.", metavar="SET")
    ],
    layout: Annotated[
        str, typer.Option(help="Whose records: videomme, mlvu, longvideobench or cgbench.")
    ],
    media_root: Annotated[Path, typer.Option(help="Folder that the records' videos start from.")],
    out: Annotated[Path, typer.Option(help="Folder that keeps the answers; goes on with a run.")],
    endpoint: Annotated[
        str, typer.Option(help="OpenAI-compatible endpoint, up to /v1: http://HOST:PORT/v1.")
    ],
    model: Annotated[str, typer.Option(help="The Video-LLM, as the endpoint calls it.")],
    arm: Annotated[
        list[str],
        typer.Option(help="uniform, selected, oracle or none (text alone). Give it for each."),
    ] = ["uniform", "selected"],  # noqa: B006  # typer copies it
    top_k: Annotated[int, typer.Option(help="Frames that each arm shows at most.")] = 32,
    checkpoint: Annotated[
        str | None,
        typer.Option(help="Select with PyTorch: checkpoint directory, hub id, or digits."),
    ] = None,
    engines: Annotated[
        Path | None, typer.Option(help="Select in this process with an engine directory.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="Select on a running server: grpc://HOST:PORT.")
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(help="Frames selected before: records (JSONL), or a folder of a batch."),
    ] = None,
    asked: Annotated[
        str,
        typer.Option(help="What frames are scored for: the whole prompt, or the question alone."),
    ] = "prompt",
    subtitles: Annotated[
        Path | None, typer.Option(help="Folder of VIDEO.srt files, for CG-Bench's prompt.")
    ] = None,
    skip_missing: Annotated[
        bool,
        typer.Option("--skip-missing", help="Leave out, and count, videos that are not there."),
    ] = False,
    set_name: Annotated[
        str | None, typer.Option(help="What tables call the set; the benchmark's name if absent.")
    ] = None,
    longest_side: Annotated[
        int, typer.Option(help="Pixels that a frame's longer side is shrunk to; 0: none.")
    ] = 768,
    quality: Annotated[int, typer.Option(help="Of the frames' JPEGs, 1 to 95.")] = 90,
    body: Annotated[
        str | None,
        typer.Option(help="JSON object of fields to add to each request; null removes one."),
    ] = None,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the API key, if there is one.")
    ] = "OPENAI_API_KEY",
    concurrency: Annotated[int, typer.Option(help="Questions asked at one time.")] = 8,
    max_attempts: Annotated[int, typer.Option(help="Tries for one question.")] = 5,
    timeout_seconds: Annotated[float, typer.Option(help="Of one try.")] = 120.0,
    price_in: Annotated[
        float | None, typer.Option(help="Price of a million prompt tokens, in any currency.")
    ] = None,
    price_out: Annotated[
        float | None, typer.Option(help="The same of a million tokens of replies.")
    ] = None,
    max_cost: Annotated[
        float | None, typer.Option(help="Stop when all answers of the run cost as much.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Stop when all answers of the run took as many tokens.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the intervals.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask a Video-LLM the same questions about uniform, selected and oracle frames.

    Answers are kept in --out; the same command goes on where an earlier one
    ended, and asks nothing twice. Ends with 1 while questions are left.
    docs/evaluate.md has the rules and the layouts.

    Example: [bold]groundserve eval qa test.parquet --layout videomme --media-root videos
    --endpoint http://127.0.0.1:8000/v1 --model my-video-llm
    --engines videoitg-gpu --out qa-videomme[/bold]
    """
    require_seed(seed)
    arms, known_layout = parse_arms(arm), parse_layout(layout)
    check_counts(top_k=top_k, concurrency=concurrency)
    check_sources(arms, records, checkpoint=checkpoint, engines=engines, server=server)
    prices = parse_prices(price_in, price_out)
    budget = Budget(max_cost=max_cost, max_tokens=max_tokens, prices=prices)
    pictures = PictureOptions(longest_side=longest_side or None, quality=quality)
    options = EndpointOptions(
        url=endpoint,
        model=model,
        max_tokens=BENCHMARKS[known_layout].max_tokens,
        api_key=os.environ.get(api_key_env) or None,
        body={} if body is None else parse_object(body, "--body"),
        max_attempts=max_attempts,
        timeout_seconds=timeout_seconds,
    )
    what = parse_asked(asked)
    check_input(questions)
    the_set = read_questions(questions, layout=known_layout)
    check_set(the_set, arms=arms, layout=known_layout, subtitles=subtitles)
    videos = find_videos(the_set, media_root, skip_missing=skip_missing)
    present = [question for question in the_set if question.video in videos]
    skipped = {
        "num_videos": len({question.video for question in the_set}) - len(videos),
        "num_questions": len(the_set) - len(present),
    }
    parts = {
        "layout": known_layout,
        "name": set_name or BENCHMARKS[known_layout].title,
        "set": file_digest(questions),
        "model": model,
        "arms": sorted(arms),
        "top_k": top_k,
        "frames": _FRAMES_RULE,
        "selector": selector_name(arms, records),
        "asked": what,
        "has_subtitles": subtitles is not None,
        "longest_side": longest_side,
        "quality": quality,
        "request": options.request([]),
    }
    with ExitStack() as stack, progress("reading the questions") as step:
        run = stack.enter_context(RunFolder(out, parts, the_set))
        selector: Selector | None = None
        is_all_selected = all(question.key in run.selections for question in present)
        if "selected" not in arms or is_all_selected:
            pass
        elif records is not None:
            selector = RecordedSelector(records, present, num_selected=top_k)
        else:
            step("loading the selector")
            scorer = stack.enter_context(open_scorer(checkpoint, engines, server))
            selector = ScoringSelector(scorer, present, num_selected=top_k, asked=what)
        chat = stack.enter_context(Endpoint(options, max_connections=concurrency))
        outcome = answer_questions(
            Setup(
                questions=present,
                videos=videos,
                arms=arms,
                num_frames=top_k,
                pictures=pictures,
                selector=selector,
                subtitles=subtitles,
            ),
            endpoint=chat,
            run=run,
            num_threads=concurrency,
            budget=budget,
            on_video=lambda number, total: step(f"asking about video {number} of {total}"),
        )
        step("estimating intervals")
        keys = {question.key for question in present}
        report = make_qa_report(
            present,
            [answer for answer in run.answers.values() if answer.key in keys],
            arms=arms,
            prices=prices,
            seed=seed,
        )
    if skipped["num_videos"]:
        print_note(
            "{num_videos} videos are missing: {num_questions} questions skipped".format(**skipped)
        )
    _print_notes(outcome, report.num_left)
    if run.engine and run.engine.get("note"):
        print_note(run.engine["note"])
    if as_json:
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


def _print_notes(outcome: Outcome, num_left: int) -> None:
    for kind, count in outcome.failures.items():
        print_note(f"{count} failed ({kind}), the first: {outcome.first_messages[kind]}")
    if outcome.is_budget_spent:
        print_note("stopped at --max-cost or --max-tokens")
    if num_left:
        print_note(f"{num_left} answers are missing; the same command asks for them again")
