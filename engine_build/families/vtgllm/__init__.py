"""VTG-LLM's vision stage, as TensorRT computes it."""
