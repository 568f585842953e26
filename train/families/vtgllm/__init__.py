"""VTG-LLM in training: Q-Former, front, tables, head and adapter; EVA is frozen."""

from train.families.base import TextTrainingFamily
from train.families.vtgllm.family import VTGLLM

FAMILY: TextTrainingFamily = VTGLLM()
"""VTG-LLM in training, as the shared loop sees it; see `train.families.base`."""
