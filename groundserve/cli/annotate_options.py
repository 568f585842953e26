"""The options of `groundserve annotate`, and what they name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from groundserve.annotate.prompts import Prompts
from groundserve.annotate.rules import Choice, Rules, Stage
from groundserve.annotate.settings import Asking, Sends, Settings, by_stage
from groundserve.batch.engines import EngineSource
from groundserve.cli._options import AsJson, Checkpoint, made_of
from groundserve.engines.manifest import Manifest
from groundserve.errors import InvalidRequestError
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.spending import Prices
from groundserve.options import Head
from groundserve.scoring.checkpoint_family import checkpoint_family
from groundserve.strict_json import parse_object

_STAGES: tuple[Stage, ...] = get_args(Stage)
_EACH = "[STAGE,...=]"
_RULES = Rules()


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions:
    """The options as they were given; see the help of each."""

    manifest: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST",
            help="Rows of video, question, answer, and maybe id: .jsonl, .parquet or .csv; or a "
            "folder of videos. Where there is no question some are proposed.",
        ),
    ]
    out: Annotated[
        str, typer.Option(help="Run directory: an empty or new folder, or a URL such as s3://...")
    ]
    endpoint: Annotated[
        list[str],
        typer.Option(
            metavar=f"{_EACH}URL",
            help="OpenAI-compatible endpoint up to /v1, of all stages or of some "
            f"({', '.join(_STAGES)}); several of the same stages share its calls.",
        ),
    ]
    model: Annotated[
        list[str], typer.Option(metavar=f"{_EACH}NAME", help="The model, as the endpoint calls it.")
    ]
    sends: Annotated[
        list[str],
        typer.Option(
            metavar=f"{_EACH}WHAT",
            help="frames, or video: the gateway's text families want caption=video.",
        ),
    ] = ("frames",)  # type: ignore[assignment]  # a list cannot be a field's default
    no_schema: Annotated[
        bool,
        typer.Option("--no-schema", help="Send no response_format, which some endpoints refuse."),
    ] = False
    api_key_env: Annotated[
        list[str],
        typer.Option(
            metavar=f"{_EACH}NAME", help="Environment variable with the API key, if there is one."
        ),
    ] = ("OPENAI_API_KEY",)  # type: ignore[assignment]
    body: Annotated[
        str | None,
        typer.Option(help="JSON object of fields to add to each request; null removes one."),
    ] = None
    prompts: Annotated[
        Path | None,
        typer.Option(help="Folder of STAGE.txt files that replace the prompts that come with it."),
    ] = None
    choice: Annotated[
        str,
        typer.Option(
            help="How frames are chosen: paper, script (as published with the data), or all (of "
            "the retrieved clips, without CLIP)."
        ),
    ] = _RULES.choice
    longest_side: Annotated[
        int, typer.Option(help="Pixels that a picture's longer side is shrunk to.")
    ] = _RULES.longest_side
    frames_per_call: Annotated[
        int, typer.Option(help="Frames that are judged in one call; 1 is the paper's way.")
    ] = _RULES.frames_per_call
    proposals: Annotated[
        int, typer.Option(help="Most questions that are proposed for a video.")
    ] = _RULES.proposals
    clip_model: Annotated[
        str, typer.Option(help="CLIP model that thins frames: a directory or hub id.")
    ] = _RULES.clip_model
    checkpoint: Checkpoint = None
    engines: Annotated[Path | None, typer.Option(help="Second grounder: an engine directory.")] = (
        None
    )
    server: Annotated[
        str | None,
        typer.Option(help="Second grounder: a running server that scores, grpc://HOST:PORT."),
    ] = None
    min_agreement: Annotated[
        float, typer.Option(help="Least agreement of both grounders that keeps an annotation.")
    ] = 0.5
    audit_url: Annotated[
        str, typer.Option(help="What comes before a video's name in Label Studio.")
    ] = "/data/local-files/?d="
    concurrency: Annotated[
        int, typer.Option(help="Calls at one time, of all workers together.")
    ] = 8
    calls_per_minute: Annotated[
        float | None, typer.Option(help="Most calls a minute, of all workers together.")
    ] = None
    max_tries: Annotated[int, typer.Option(help="Tries for one call.")] = 3
    call_seconds: Annotated[float, typer.Option(help="Longest silence of one try.")] = 120.0
    price_in: Annotated[
        list[str] | None,
        typer.Option(metavar=f"{_EACH}PRICE", help="Of a million prompt tokens, in any currency."),
    ] = None
    price_out: Annotated[
        list[str] | None,
        typer.Option(metavar=f"{_EACH}PRICE", help="The same of a million tokens of replies."),
    ] = None
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Estimate calls, tokens and cost, and ask nobody."),
    ] = False
    recorded: Annotated[
        str | None,
        typer.Option(help="With --dry-run: run directory that was made, to estimate by."),
    ] = None
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out: what is missing or failed."),
    ] = False
    workers: Annotated[int, typer.Option(help="Processes that annotate.")] = 1
    max_attempts: Annotated[int, typer.Option(help="Tries for one row, over all attempts.")] = 3
    timeout_seconds: Annotated[
        float, typer.Option(help="Longest time of one question about a video.")
    ] = 3600.0
    as_json: AsJson = False

    def settings(self) -> Settings:
        """Return what is asked of whom; the second grounder's identity is not known yet."""
        urls, models = by_stage(self.endpoint, "--endpoint"), by_stage(self.model, "--model")
        sends, keys = by_stage(self.sends, "--sends"), by_stage(self.api_key_env, "--api-key-env")
        body = {} if self.body is None else parse_object(self.body, "--body")
        asked: dict[Stage, Asking] = {}
        for stage in _STAGES:
            (model,) = _single(models[stage], "--model")
            (key,) = _single(keys[stage], "--api-key-env")
            endpoints = tuple(
                EndpointOptions(
                    url=url,
                    model=model,
                    max_tokens=1,
                    api_key=os.environ.get(key) or None,
                    body=body,
                    max_attempts=self.max_tries,
                    timeout_seconds=self.call_seconds,
                )
                for url in urls[stage]
            )
            sent: Sends = _one_of("--sends", sends[stage][-1], get_args(Sends))
            asked[stage] = Asking(endpoints=endpoints, sends=sent, has_schema=not self.no_schema)
        choice: Choice = _one_of("--choice", self.choice, get_args(Choice))
        return Settings(
            rules=made_of(vars(self) | {"choice": choice}, Rules),
            prompts=Prompts.read(self.prompts),
            asked=asked,
            verifier=self._verifier(),
            concurrency=self.concurrency,
            calls_per_minute=self.calls_per_minute,
        )

    def prices(self) -> Mapping[Stage, Prices] | None:
        """Return what tokens cost by stage; None where nobody said."""
        if self.price_in is None and self.price_out is None:
            return None
        if self.price_in is None or self.price_out is None:
            raise InvalidRequestError("--price-in and --price-out go together")
        given = [by_stage(self.price_in, "--price-in"), by_stage(self.price_out, "--price-out")]
        try:
            return {
                stage: Prices(
                    prompt=float(given[0][stage][-1]), completion=float(given[1][stage][-1])
                )
                for stage in _STAGES
            }
        except ValueError as error:
            raise InvalidRequestError(f"--price-in and --price-out: {error}") from None

    def _verifier(self) -> EngineSource | None:
        if self.checkpoint is None and self.engines is None and self.server is None:
            return None
        head: Head = "frames"
        if self.checkpoint is not None:
            head = checkpoint_family(self.checkpoint).head
        elif self.engines is not None:
            head = Manifest.load(self.engines).seam.head
        servers = () if self.server is None else (self.server,)
        source = EngineSource(
            checkpoint=self.checkpoint, engines=self.engines, servers=servers, head=head
        )
        source.check()
        return source


def _single(values: list[str], option: str) -> list[str]:
    if len(values) > 1:
        raise InvalidRequestError(f"{option} must be given once for each stage, got {values}")
    return values


def _one_of(option: str, value: str, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise InvalidRequestError(f"{option} must be one of {', '.join(known)}, got {value}")
    return value
