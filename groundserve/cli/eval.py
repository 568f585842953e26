"""`groundserve eval`: how well a checkpoint, engine or server ranks frames."""

from __future__ import annotations

import typer

from groundserve.cli import eval_answers, eval_qa
from groundserve.cli._checks import check_input, check_outputs
from groundserve.cli._options import grouped, is_given
from groundserve.cli._output import print_json, progress
from groundserve.cli.eval_run import (
    EvalOptions,
    Source,
    check_digits,
    evaluate,
    open_records,
)
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.bootstrap import require_seed
from groundserve.evaluation.scored_records import OPTIONS
from groundserve.scoring.opener import check_scorer

app = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")
for name, subcommand in {
    "moments": eval_answers.moments,
    "captions": eval_answers.captions,
    "highlights": eval_answers.highlights,
    "qa": eval_qa.command,
    "qa-table": eval_qa.table,
}.items():
    app.command(name)(subcommand)

_SCORERS = ("checkpoint", "engines", "server")
_SCORING = {*_SCORERS, "baseline", "top_k", "jsonl", "sampling"}
_GOES_WITH = {
    "predictions": {"ground_truth"},
    "records": {"media_root"} | _SCORING,
    "num_videos": {"num_frames", "keep"} | _SCORING,
}
"""By the option that names a source of questions, the options that may be given with it."""
_ALWAYS = {"seed", "as_json"}


@app.callback()
@grouped
def command(ctx: typer.Context, *, given: EvalOptions) -> None:
    """Measure how well frames are ranked, spans found and absent things told.

    Without --records or --predictions, draws MovingDigits test videos that
    no checkpoint was trained on; the same --seed draws the same ones. Without
    --checkpoint, --engines or --server, evaluates the small checkpoint that
    comes with groundserve. With --baseline, says of each figure whether it is
    better or worse than another checkpoint's, or not told apart from it.
    docs/evaluate.md defines all figures; intervals are 95% bootstrap
    intervals over videos.

    Example: [bold]groundserve eval --checkpoint my-checkpoint --seed 7 --top-k 8[/bold]

    Example: [bold]groundserve eval --checkpoint new --baseline old
    --records records.json --media-root videos[/bold]
    """
    named = {name for name in ctx.params if is_given(ctx, name)}
    if ctx.invoked_subcommand is not None:
        if named:
            raise InvalidRequestError(
                f"{_flag(min(named))} does not go before {ctx.invoked_subcommand}; "
                f"see: groundserve eval {ctx.invoked_subcommand} --help"
            )
        return
    _refuse_mixtures(named)
    if given.predictions is not None and given.ground_truth is not None:
        eval_answers.compare_files(
            given.predictions, given.ground_truth, seed=given.seed, as_json=given.as_json
        )
        return
    questions = _check(given)
    with progress("loading") as step:
        evaluation = evaluate(given, questions, step=step)
    evaluation.print_notes()
    if given.as_json:
        print_json(evaluation.as_dict())
    else:
        evaluation.print_tables()


def _check(given: EvalOptions) -> Source | None:
    """Look at all options before any work; return the records, None where digits are drawn."""
    require_seed(given.seed)
    if given.top_k < 1:
        raise InvalidRequestError(f"top_k must be >= 1, got {given.top_k}")
    if given.sampling is None and given.jsonl is not None:
        raise InvalidRequestError(
            "--jsonl writes frames sampled by rule A, at most 1,024, which are not a benchmark's "
            "(rule B, at most 512): say --sampling infer if that is meant; for a benchmark use "
            "groundserve score --jsonl"
        )
    if given.sampling not in (None, OPTIONS.sampling):
        raise InvalidRequestError(
            f"sampling must be {OPTIONS.sampling}, whose frames the records' frame_num counts, "
            f"got {given.sampling}"
        )
    check_outputs({"--jsonl": given.jsonl})
    check_scorer(given.checkpoint, given.engines, given.server)
    if given.baseline is not None:
        check_scorer(given.baseline, None, None)
    if given.records is not None and given.media_root is not None:
        check_input(given.records)
        return open_records(given.records, given.media_root)
    check_digits(given)
    return None


def _refuse_mixtures(given: set[str]) -> None:
    """Refuse options of two sources of questions, and half of a pair."""
    given = given - _ALWAYS
    for first, second in (("records", "media_root"), ("predictions", "ground_truth")):
        for one, other in ((first, second), (second, first)):
            if one in given and other not in given:
                raise InvalidRequestError(f"{_flag(one)} needs {_flag(other)}")
    source = next((name for name in ("predictions", "records") if name in given), "num_videos")
    strangers = sorted(given - {source} - _GOES_WITH[source])
    if strangers:
        raise InvalidRequestError(f"{_flag(strangers[0])} does not go with {_flag(source)}")
    if "baseline" in given and not given & set(_SCORERS):
        raise InvalidRequestError(
            "--baseline needs --checkpoint, --engines or --server: what is compared with it"
        )


def _flag(name: str) -> str:
    return "--json" if name == "as_json" else "--" + name.replace("_", "-")
