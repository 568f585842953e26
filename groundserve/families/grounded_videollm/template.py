"""What stands around a question in the prompts of Grounded-VideoLLM's two decoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from groundserve.families.grounded_videollm.spec import Llm
from groundserve.families.grounded_videollm.times import GROUNDING_TOKEN

VIDEO_PLACEHOLDER = "<image>"


@dataclass(frozen=True, kw_only=True)
class Template:
    """What one decoder's prompts consist of."""

    before: str
    """Up to the user's turn."""
    behind: str
    """Between the user's turn and the answer."""
    end: str
    padding: str

    def prompt(self, question: str, *, grounding: bool, mark: str | None = None) -> str:
        """Put a question, with the video's placeholder before it.

        Args:
            question: The user's words. Those of a turn without times lose the space around them.
            grounding: Whether the answer is to say times.
            mark: Put in front of each token behind the placeholder; what the question spells is
                text. None: its tokens are such, and the end token is taken out of it.

        Source: WHB139426/Grounded-Video-LLM e26da4e, `datasets/chat/base_template.py` and
        `inference.py::create_inputs`.
        """
        if grounding:
            turn = f"{VIDEO_PLACEHOLDER} {mark or ''}{GROUNDING_TOKEN}\n{question}"
        elif mark is None and GROUNDING_TOKEN in question:  # of the user's own
            turn = f"{VIDEO_PLACEHOLDER}\n{question}"
        else:
            turn = f"{VIDEO_PLACEHOLDER}\n{question.strip()}".strip()
        if mark is not None:
            return f"{self.before}{turn}{self.behind.replace('<|', f'{mark}<|')}"
        return f"{self.before}{turn}{self.behind}".replace(self.end, "")


TEMPLATES: Mapping[Llm, Template] = {
    "phi3.5": Template(
        before=(
            "<|system|>\nYou are a helpful AI assistant that can generate responses based on "
            "visual inputs.\n<|user|>\n"
        ),
        behind="\n<|assistant|>\n",
        end="<|endoftext|>",
        padding="<|end|>",
    ),
    "llama3": Template(
        before=(
            "<|start_header_id|>system<|end_header_id|>You are a helpful language and vision "
            "assistant. You are able to understand the visual content that the user provides, and "
            "assist the user with a variety of tasks using natural language."
            "<|start_header_id|>user<|end_header_id|>"
        ),
        behind="<|start_header_id|>assistant<|end_header_id|>",
        end="<|eot_id|>",
        padding="<|end_of_text|>",
    ),
}
"""By the decoder."""
