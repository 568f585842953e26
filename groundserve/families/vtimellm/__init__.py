"""VTimeLLM: CLIP's vector of each of 100 frames, a causal decoder that tells times by place."""

from groundserve.families.base import Family
from groundserve.families.vtimellm.family import VTimeLLM
from groundserve.families.vtimellm.spec import VTimeLLMSpec
from groundserve.options import AnswerOptions

FAMILY: Family[VTimeLLMSpec, AnswerOptions] = VTimeLLM()
