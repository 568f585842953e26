"""Grounded-VideoLLM's vision stage, as TensorRT computes it."""
