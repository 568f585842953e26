"""Moments and captions told in text, scored as on ActivityNet Captions.

The protocol is that of VTimeLLM's published numbers; docs/evaluation.md has the definitions.

- `annotations`: what happens when, by video: `read_annotations`.
- `answers`, `answer_log`: what a model said of it: `read_answers`; `asking` asks one and keeps it.
- `moments`: R1@m and mIoU of the moments found: `make_grounding_report`.
- `events`, `soda`, `captions`: SODA_c, CIDEr, METEOR and others of what is told to happen:
  `make_caption_report`.
- `language`: tokenizer and METEOR, two programs in Java, and the n-gram scores of the extra
  `captions`.
"""
