"""VideoITG in training: projector and decoder through four stages, the tower frozen."""

from train.families.base import TrainingFamily
from train.families.videoitg.family import VideoITG

FAMILY: TrainingFamily = VideoITG()
