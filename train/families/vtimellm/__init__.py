"""VTimeLLM in training: a projector, then one adapter upon another, CLIP frozen."""

from train.families.base import TextTrainingFamily
from train.families.vtimellm.family import VTimeLLM

FAMILY: TextTrainingFamily = VTimeLLM()
