"""VTG-LLM: EVA and a Q-Former on each frame, a causal decoder that spells seconds in tokens."""

from groundserve.families.base import Family
from groundserve.families.vtgllm.family import VTGLLM
from groundserve.families.vtgllm.spec import VTGLLMSpec
from groundserve.options import AnswerOptions

FAMILY: Family[VTGLLMSpec, AnswerOptions] = VTGLLM()
