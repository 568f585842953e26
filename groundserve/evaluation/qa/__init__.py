"""Multiple-choice questions that a Video-LLM answers from uniform, selected or oracle frames.

Numpy is all that it needs, but for the endpoint (openai), the pictures (PyAV, Pillow) and Parquet
files (pyarrow), which are imported where they are used. docs/evaluate.md has the rules.
"""
