"""The classes that Triton's Python backend runs; nothing else touches `pb_utils`."""
