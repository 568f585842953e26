"""The checkpoint that speed and robustness are measured with."""

from pathlib import Path

SEEDED_CHECKPOINT = Path(__file__).parent.parent / "tests" / "fixtures" / "seeded"
"""Random weights; unlike the shipped one it takes as many visual tokens as the released model."""
