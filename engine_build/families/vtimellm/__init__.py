"""Parts of VTimeLLM for a GPU, made one by one: docs/tensorrt.md."""
