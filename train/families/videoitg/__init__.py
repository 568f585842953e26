"""VideoITG in training: projector and decoder through four stages, the tower frozen."""

from train.families.videoitg.family import VideoITG

FAMILY = VideoITG()
