"""Moments and captions told in text, scored as on ActivityNet Captions.

Definitions are those of VTimeLLM's, VTG-LLM's or the benchmark's own numbers: docs/evaluate.md.

- `annotations`: what happens when, by video: `read_annotations`.
- `answers`, `answer_log`: what a model said of it: `read_answers`; `ask_annotated` asks one and
  keeps it.
- `moments`: R1@m and mIoU of the moments found, `make_grounding_report`; in what the protocols
  differ: `get_protocol`.
- `captions`: SODA_c, CIDEr, METEOR and others of what is told to happen:
  `make_caption_report`.
- `language`: tokenizer and METEOR, two programs in Java, and the n-gram scores of the extra
  `captions`.
"""
