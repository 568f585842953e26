"""What `make demo` runs: build, serve, score a real video, draw, stop.

Every step is the command a user would type; the script prints each before it runs it.
"""

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

from groundserve.cli.shipped import SHIPPED_CHECKPOINT

QUERIES = ("When is a parked bicycle shown?", "Which frames show cars in traffic?")
COMMAND = [str(Path(sys.executable).with_name("groundserve"))]


def run(*args: str) -> str:
    """Run one groundserve command and return what it printed."""
    print(f"\n$ groundserve {shlex.join(args)}", flush=True)
    finished = subprocess.run([*COMMAND, *args], check=True, stdout=subprocess.PIPE, text=True)
    print(finished.stdout, end="", flush=True)
    return finished.stdout


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for engines and pictures")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    clip = Path(sys.prefix) / "clips" / "bikes.mp4"
    engines = out / "engines"
    started = time.perf_counter()
    run("build", "--checkpoint", str(SHIPPED_CHECKPOINT), "--out", str(engines))
    serve = ["serve", "--engines", str(engines), "--json", "--log-file", str(out / "triton.log")]
    serve += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    print(f"\n$ groundserve {shlex.join(serve)} &", flush=True)
    server = subprocess.Popen([*COMMAND, *serve], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            sys.exit(f"the server did not start; see {out / 'triton.log'}")
        print(line, end="", flush=True)
        address = json.loads(line)["grpc"]
        questions = [word for query in QUERIES for word in ("--query", query)]
        common = ["score", str(clip), *questions, "--server", address, "--top-k", "4"]
        pictures = ["--contact-sheet", str(out / "contact_sheet.png")]
        pictures += ["--plot", str(out / "scores.png")]
        run(*common, *pictures)
        answer = run(*common, "--json")
        (out / "answer.json").write_text(answer)
    finally:
        server.terminate()
        server.wait(timeout=30)
    print(f"\nserver stopped; {out}/ holds the pictures, answer.json and triton.log")
    print(f"{time.perf_counter() - started:.1f} s in all")


if __name__ == "__main__":
    main()
