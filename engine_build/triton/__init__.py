"""The Triton model repository of an engine directory: specs in Python, config.pbtxt generated."""
