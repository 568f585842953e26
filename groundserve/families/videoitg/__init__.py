"""VideoITG: SigLIP tower, projector, Qwen2 with full attention, one relevance logit a frame."""

from groundserve.families.videoitg.family import VideoITG

FAMILY = VideoITG()
