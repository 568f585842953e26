"""What the reference of Grounded-VideoLLM recorded; see tests/fixtures/grounded_videollm."""

import json

from groundserve.families.grounded_videollm.plan import LLAMA_3, PHI_3_5
from groundserve.families.plans import SeenVideo
from tests.support.reference import REPOSITORY

FOLDER = REPOSITORY / "tests" / "fixtures" / "grounded_videollm"
RECORDED = json.loads((FOLDER / "cases.json").read_text("utf-8"))
FUNCTIONS = RECORDED["functions"]
TOKENIZERS = {
    "phi3.5": FOLDER / "weight_path" / "Phi-3.5-mini-instruct",
    "llama3": FOLDER / "weight_path" / "Meta-Llama-3-8B-Instruct",
}
LLMS = tuple(TOKENIZERS)
SPECS = {"phi3.5": PHI_3_5, "llama3": LLAMA_3}


def seen(duration_seconds: float) -> SeenVideo:
    return SeenVideo(
        duration_seconds=duration_seconds,
        num_visual_tokens=3420,
        time_range_seconds=(0.0, duration_seconds),
        model_seconds=None,
    )
