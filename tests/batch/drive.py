"""A driver as a program of its own, for tests that kill it.

python -m tests.batch.drive MANIFEST OUT [--seconds S] [--resume]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.batch.jobs import Job
from tests.batch.scripted import ScriptedSource


def main() -> None:
    """Run or resume a job with two workers; exit 1 where the job cannot go on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0, help="of a scripted video")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    job = Job(manifest=args.manifest, out=args.out, source=ScriptedSource(seconds=args.seconds))
    job.run(resume=args.resume)


if __name__ == "__main__":
    main()
