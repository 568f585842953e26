"""Runs of families that answer in text, on the tiny checkpoints that their references recorded."""

from dataclasses import replace

from tests.support.reference import REPOSITORY
from train.config import AdapterConfig
from train.families import find_family

FIXTURES = REPOSITORY / "tests" / "fixtures"
VTIMELLM = FIXTURES / "vtimellm"


def _vtimellm(stage, out):
    images = FIXTURES / "training_ref" / "vtimellm" / "images.json"
    config = find_family(None, stage).stages[stage](
        init=VTIMELLM / "checkpoints",
        records=images if stage == "vtimellm-1" else VTIMELLM / "train" / "samples.json",
        media_root=VTIMELLM / "features",
        out=out,
    )
    adapter = None if config.adapter is None else AdapterConfig(rank=8, alpha=16, dropout=0.0)
    return replace(config, adapter=adapter)


_CONFIGS = {"vtimellm": _vtimellm}
STAGES = tuple(f"vtimellm-{number}" for number in (1, 2, 3))
"""All that can be trained here."""


def recorded_config(stage, out):
    """The config of the recorded steps."""
    config = _CONFIGS[stage.rpartition("-")[0]](stage, out)
    return replace(config, optimizer=replace(config.optimizer, learning_rate=1e-2))


def make_config(stage, out):
    """Six steps in one process, in which an adapter drops some of its inputs."""
    config = recorded_config(stage, out)
    adapter = config.adapter and replace(config.adapter, dropout=0.1)
    return replace(
        config,
        adapter=adapter,
        batch_size=1,
        accumulation_steps=1,
        max_steps=6,
        precision="fp32",
        gradient_checkpointing=False,
        parallelism="none",
        save_every_steps=3,
    )
