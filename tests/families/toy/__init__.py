"""A family in as few lines as one takes: every k-th frame, one token each, a product of vectors."""

from groundserve.families.base import FramesFamily
from groundserve.families.toy.family import Toy
from groundserve.families.toy.spec import ToySpec
from groundserve.options import ScoreOptions

FAMILY: FramesFamily[ToySpec, ScoreOptions] = Toy()
"""The toy as a family: one logit a frame."""
