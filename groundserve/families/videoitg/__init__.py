"""VideoITG: SigLIP tower, projector, Qwen2 with full attention, one relevance logit a frame."""

from groundserve.families.base import EngineFamily
from groundserve.families.videoitg.family import VideoITG
from groundserve.families.videoitg.spec import VideoITGSpec
from groundserve.options import ScoreOptions

FAMILY: EngineFamily[VideoITGSpec, ScoreOptions] = VideoITG()
