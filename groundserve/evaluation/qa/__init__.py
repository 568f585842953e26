"""Multiple-choice questions that a Video-LLM answers from uniform, selected or oracle frames.

Numpy is all that it needs, but for the endpoint (openai), the pictures (PyAV, Pillow) and Parquet
files (pyarrow), which are imported where they are used. docs/evaluate.md has the rules.

- `question`, `reading`, `prompts`, `replies`: the records of four benchmarks, what is
  asked, and how a reply is read, all as the reference's harness does it.
- `arms`, `selections`: which frames are shown.
- `endpoint`, `endpoint_options`: an OpenAI-compatible server, however it misbehaves.
- `tasks`, `answering`, `run_folder`: JPEGs of the frames, and answers asked for once and kept.
- `spending`: tokens, prices and ceilings.
- `report`: accuracy with intervals, and the paper's table of several runs.
"""
