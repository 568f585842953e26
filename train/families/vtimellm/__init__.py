"""VTimeLLM in training: a projector, then one adapter upon another, CLIP frozen."""

from train.families.base import TrainingFamily
from train.families.vtimellm.family import VTimeLLM

FAMILY: TrainingFamily = VTimeLLM()
