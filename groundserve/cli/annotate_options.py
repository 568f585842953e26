"""The options of `groundserve annotate`, and what they name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from groundserve.annotate.prompts import read_prompts
from groundserve.annotate.settings import STAGES, Choice, Rules, Settings, by_stage, one_by_stage
from groundserve.batch.engines import EngineSource
from groundserve.cli._options import AsJson, Checkpoint, made_of
from groundserve.engines.manifest import Manifest
from groundserve.evaluation.qa.endpoint_options import EndpointOptions
from groundserve.evaluation.qa.spending import Prices
from groundserve.options import Head
from groundserve.scoring.checkpoint_family import checkpoint_family
from groundserve.strict_json import parse_object

_RULES = Rules()
_MANIFEST = (
    "Rows of video, question, answer, and maybe id: .jsonl, .parquet or .csv; or a folder of "
    "videos. Where there is no question some are proposed."
)
_ENDPOINT = (
    "OpenAI-compatible endpoint up to /v1, of all stages or of some "
    f"({', '.join(STAGES)}); several share the calls."
)


@dataclass(frozen=True, kw_only=True)
class AnnotateOptions:
    """The options as they were given; see the help of each."""

    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help=_MANIFEST)]
    out: Annotated[str, typer.Option(help="Run directory, or a URL such as s3://...")]
    endpoint: Annotated[list[str], typer.Option(metavar="[STAGE,...=]URL", help=_ENDPOINT)]
    model: Annotated[
        list[str], typer.Option(metavar="[STAGE,...=]NAME", help="As the endpoint calls it.")
    ]
    api_key_env: Annotated[
        list[str],
        typer.Option(metavar="[STAGE,...=]NAME", help="Environment variable of the key, if any."),
    ] = ("OPENAI_API_KEY",)  # type: ignore[assignment]  # a list cannot be a field's default
    send_video: Annotated[
        bool, typer.Option("--send-video", help="Show clips as videos, as the gateway wants them.")
    ] = False
    body: Annotated[
        str, typer.Option(help="JSON object of fields to add to each request; null removes one.")
    ] = "{}"
    prompts: Annotated[
        Path | None, typer.Option(help="Folder of STAGE.txt files in place of the package's.")
    ] = None
    choice: Annotated[Choice, typer.Option(help="How frames are chosen.")] = _RULES.choice
    longest_side: Annotated[int, typer.Option(min=1, help="Pixels of a picture.")] = (
        _RULES.longest_side
    )
    frames_per_call: Annotated[
        int, typer.Option(min=1, help="Frames that are judged in one call; 1 is the paper's way.")
    ] = _RULES.frames_per_call
    proposals: Annotated[
        int, typer.Option(min=1, help="Most questions that are proposed for a video.")
    ] = _RULES.proposals
    clip_model: Annotated[
        str, typer.Option(help="CLIP model that thins frames: a directory or hub id.")
    ] = _RULES.clip_model
    checkpoint: Checkpoint = None
    engines: Annotated[Path | None, typer.Option(help="Second grounder: engines.")] = None
    min_agreement: Annotated[
        float, typer.Option(min=0, max=1, help="Least agreement of both that keeps an annotation.")
    ] = 0.5
    audit_url: Annotated[
        str, typer.Option(help="What comes before a video's name in Label Studio.")
    ] = "/data/local-files/?d="
    concurrency: Annotated[
        int, typer.Option(min=1, help="Calls at one time, of all workers; each has one at least.")
    ] = 8
    calls_per_minute: Annotated[
        float | None, typer.Option(min=0.001, help="Most calls a minute, of all workers.")
    ] = None
    call_tries: Annotated[int, typer.Option(help="Tries for one call.")] = 3
    call_seconds: Annotated[float, typer.Option(help="Longest silence of one try.")] = 120.0
    price_in: Annotated[float, typer.Option(help="Of a million prompt tokens.")] = 0.0
    price_out: Annotated[float, typer.Option(help="The same of replies.")] = 0.0
    dry_run: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Ask nobody; estimate calls, tokens and cost by a run."),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out: what is left or failed.")
    ] = False
    workers: Annotated[int, typer.Option(min=1, help="Processes that annotate.")] = 1
    max_attempts: Annotated[int, typer.Option(help="Tries for one row, in all attempts.")] = 3
    timeout_seconds: Annotated[float, typer.Option(help="Longest time of one row.")] = 3600.0
    as_json: AsJson = False

    def settings(self) -> Settings:
        """Return what each worker asks of whom."""
        models = one_by_stage(self.model, "--model")
        keys = one_by_stage(self.api_key_env, "--api-key-env")
        body = parse_object(self.body, "--body")
        endpoints = {
            stage: tuple(
                EndpointOptions(
                    url=url,
                    model=models[stage],
                    max_tokens=1,  # each stage has its own
                    api_key=os.environ.get(keys[stage]) or None,
                    body=body,
                    max_attempts=self.call_tries,
                    timeout_seconds=self.call_seconds,
                )
                for url in urls
            )
            for stage, urls in by_stage(self.endpoint, "--endpoint").items()
        }
        verifier, rate = self._verifier(), self.calls_per_minute
        return Settings(
            rules=made_of(vars(self), Rules),
            prompts=read_prompts(self.prompts),
            endpoints=endpoints,
            sends_video=self.send_video,
            verifier=verifier,
            verifier_id="" if verifier is None else str(verifier.identity()["id"]),
            concurrency=max(1, self.concurrency // self.workers),
            calls_per_minute=None if rate is None else rate / self.workers,
        )

    @property
    def prices(self) -> Prices:
        """What tokens cost."""
        return Prices(prompt=self.price_in, completion=self.price_out)

    def _verifier(self) -> EngineSource | None:
        if self.checkpoint is not None:
            head: Head = checkpoint_family(self.checkpoint).head
        elif self.engines is not None:
            head = Manifest.load(self.engines).seam.head
        else:
            return None
        source = EngineSource(checkpoint=self.checkpoint, engines=self.engines, head=head)
        source.check()
        return source
