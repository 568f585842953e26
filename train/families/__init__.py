"""Training of each model family: its models, its stages, the layout of its files."""
