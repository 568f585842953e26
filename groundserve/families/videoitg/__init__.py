"""The VideoITG model in PyTorch: SigLIP tower, projector, Qwen2 with full attention, head."""
