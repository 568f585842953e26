"""Checkpoint files: where they lie, and how their tensors are read."""
