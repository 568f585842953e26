"""A family in as few lines as one takes: every k-th frame, one token each, a product of vectors."""

from groundserve.families.toy.family import Toy

FAMILY = Toy()
"""The toy as a family: one logit a frame."""
