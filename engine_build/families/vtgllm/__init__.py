"""VTG-LLM in engines for a GPU: docs/tensorrt.md."""
