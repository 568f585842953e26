"""Grounded-VideoLLM in training: projectors, then tables, head and adapter too, towers frozen."""

from train.families.base import TextTrainingFamily
from train.families.grounded_videollm.family import GroundedVideoLLM

FAMILY: TextTrainingFamily = GroundedVideoLLM()
