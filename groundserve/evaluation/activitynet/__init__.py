"""Moments and captions told in text, scored as on ActivityNet Captions.

Definitions are those of VTimeLLM's, VTG-LLM's or the benchmark's own numbers: docs/evaluate.md.
"""
