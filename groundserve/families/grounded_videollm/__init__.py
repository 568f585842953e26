"""Grounded-VideoLLM: CLIP and InternVideo2 on segments, a causal decoder with time tokens."""

from groundserve.families.base import Family
from groundserve.families.grounded_videollm.family import GroundedVideoLLM
from groundserve.families.grounded_videollm.spec import GroundedVideoLLMSpec
from groundserve.options import AnswerOptions

FAMILY: Family[GroundedVideoLLMSpec, AnswerOptions] = GroundedVideoLLM()
