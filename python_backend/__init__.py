"""What the Triton models and the in-process pipeline run: decode, encode, ground, select."""
