"""VTimeLLM's vision stage, as TensorRT computes it."""
