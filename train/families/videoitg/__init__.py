"""VideoITG in training."""
