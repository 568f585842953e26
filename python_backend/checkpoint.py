"""Open the stages of a checkpoint in PyTorch: profile `torch`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self

from groundserve import extras
from groundserve._version import __version__
from groundserve.engines.manifest import FORMAT_VERSION, TOKENIZER_NAME, Manifest
from groundserve.engines.profiles import Device, get_profile
from groundserve.families import open_checkpoint
from groundserve.families.base import (
    AnswerTokenizer,
    FamilyCheckpoint,
    QueryTokenizer,
    TextCheckpoint,
)
from groundserve.families.vision_inputs import VisionInputs
from groundserve.media import MediaWorkers
from python_backend.answers import Room
from python_backend.decode import FrameDecoder, PyAVDecoder
from python_backend.generate import Generator
from python_backend.meter import Meter

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from python_backend.encode.torch import TorchEncoder
    from python_backend.ground.torch import TorchGrounder


def torch_stages() -> Any:
    """Return the module that opens stages in PyTorch, which it imports."""
    return extras.load("python_backend.torch_stages", "build")


@dataclass(frozen=True, kw_only=True)
class CheckpointStages:
    """A checkpoint as it is, without an engine directory; opens what `EngineDirectory` does."""

    checkpoint: FamilyCheckpoint | TextCheckpoint
    tokenizer: Tokenizer
    manifest: Manifest
    """What a directory of profile `torch` would say of it; without files."""

    @classmethod
    def open(
        cls,
        place: str | Path,
        *,
        vision_tower: str | Path | None = None,
        family: str | None = None,
        parts: Mapping[str, Sequence[str | Path]] | None = None,
        device: Device | None = None,
    ) -> Self:
        """Open a checkpoint, whose weights are not read yet, as `Pipeline.from_checkpoint` does."""
        opened_family, checkpoint = open_checkpoint(
            place, family=family, parts=parts, vision_tower=vision_tower
        )
        profile = get_profile("torch")
        device, precision = profile.choose(device)
        tokenizer, pad_token_id = checkpoint.load_tokenizer()
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            family=opened_family.name,
            groundserve_version=__version__,
            profile=profile.name,
            device=device,
            precision=precision,
            model=checkpoint.model_spec(pad_token_id=pad_token_id),
            checkpoint=checkpoint.describe(),
            source_config=checkpoint.raw_config,
            builder={},
            files={},
        )
        VisionInputs.of(manifest.seam, manifest.model)  # refused before any weight is read
        return cls(checkpoint=checkpoint, tokenizer=tokenizer, manifest=manifest)

    @property
    def room(self) -> Room:
        """How long a sequence may be."""
        return Room(max_tokens=self.manifest.model.max_tokens)

    def open_decoder(
        self, workers: MediaWorkers, *, meter: Meter, num_threads: int
    ) -> FrameDecoder:
        """Open the decode stage; FFmpeg's threads are the workers'."""
        streams = VisionInputs.of(self.manifest.seam, self.manifest.model).streams
        return PyAVDecoder(workers, streams=streams, meter=meter)

    def open_encoder(self, *, num_threads: int) -> TorchEncoder:
        """Open the vision stage."""
        opened: TorchEncoder = torch_stages().open_encoder(
            self.checkpoint, self.manifest, num_threads=num_threads
        )
        return opened

    def open_grounder(self, *, num_threads: int) -> TorchGrounder:
        """Open the grounding stage."""
        _ = self.manifest.frames_seam  # or it is refused
        opened: TorchGrounder = torch_stages().open_grounder(
            self.checkpoint, self.manifest, num_threads=num_threads
        )
        return opened

    def open_generator(self, *, num_threads: int) -> Generator:
        """Open the generation stage."""
        _ = self.manifest.text_seam  # or it is refused
        opened: Generator = torch_stages().open_generator(
            self.checkpoint, self.manifest, num_threads=num_threads
        )
        return opened

    def open_tokenizer(self) -> QueryTokenizer:
        """Open the tokenizer of a family that scores frames."""
        family = self.manifest.frames_seam
        with self._tokenizer_file() as path:
            return family.open_tokenizer(path, self.manifest.model)

    def open_answer_tokenizer(self) -> AnswerTokenizer:
        """Open the tokenizer of a family that answers in text."""
        family = self.manifest.text_seam
        with self._tokenizer_file() as path:
            return family.open_tokenizer(path, self.manifest.model)

    @contextmanager
    def _tokenizer_file(self) -> Iterator[Path]:
        """Yield the file that a build writes: a family opens its tokenizer in one way alone."""
        with TemporaryDirectory(prefix="groundserve-") as folder:
            path = Path(folder) / TOKENIZER_NAME
            self.tokenizer.save(str(path))
            yield path
