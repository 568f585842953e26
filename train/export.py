"""Make a model of a checkpoint in the middle of a run, as `final/` is made of the last one.

    python -m train.export grounding --config grounding.toml --step 500 --out runs/at-500

One process on its own does it, whatever wrote the checkpoint. The weights are read one file of the
result at a time; besides them, the main memory holds what the stage started from.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from groundserve.errors import GroundserveError
from train.config import Stage, StageConfig
from train.config_file import read_config
from train.families import find_family
from train.files import write_checkpoint
from train.state import SavedWeights


def export(config: StageConfig, checkpoint: Path, out: Path) -> None:
    """Write a checkpoint of a run in the reference's layout; one that is at `out` is replaced."""
    weights = SavedWeights(checkpoint)
    # The folder itself is renamed into place, so here it is only its parent that is made.
    out.parent.mkdir(parents=True, exist_ok=True)
    initial = find_family(config.init, config.stage).open_initial(config, num_auxiliary=0)
    write_checkpoint(out, initial, weights)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m train.export")
    parser.add_argument("stage", choices=get_args(Stage))
    parser.add_argument("--config", type=Path, required=True, help="the run's TOML file")
    parser.add_argument("--step", type=int, required=True, help="of the checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder to be made")
    given = parser.parse_args(arguments)
    try:
        config = read_config(given.stage, given.config)
        # By its name and not the newest: the run may still be writing others.
        checkpoint = config.out / f"checkpoint-{given.step}"
        if not checkpoint.is_dir():
            found = sorted(path.name for path in config.out.glob("checkpoint-*"))
            parser.error(
                f"no {checkpoint}; checkpoints in {config.out}: {', '.join(found) or 'none'}"
            )
        export(config, checkpoint, given.out)
    except GroundserveError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
