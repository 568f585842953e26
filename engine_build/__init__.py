"""From a checkpoint to an engine directory that a server loads."""

from engine_build.build import build

__all__ = ["build"]
