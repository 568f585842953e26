"""How well frames are ranked, spans found and absent things told: figures with their intervals.

Works on arrays; numpy is all that it needs, and what is here holds for any model's scores. The
definitions stand in docs/evaluate.md.

- `report`: `ScoredQuestion` in, every figure out: `make_report`; with another video's questions:
  `make_control_report`. Start here.
- `comparison`: two models on the same questions: `make_comparison`.
- `frames`, `spans`: figures of one question: `average_precision`, `recall_at_k`, `top_span_iou`.
- `bootstrap`: 95% intervals over videos, of any figure: `bootstrap_mean`, `bootstrap_difference`.
- `grounding_records`, `scored_records`: VideoITG-40K records, and what a `Pipeline` or `Client`
  makes of them: `read_grounding_records`, `score_records`.
- `qvhighlights`, `qvhighlights_files`: moments and highlights as that benchmark scores them.
- `highlights`: highlights told in text, by the same
  figures: `make_highlight_report`.
- `asking`, `line_file`: asking a model what a file of answers lacks, and keeping what it says.

    from groundserve.evaluation.report import ScoredQuestion, make_report

    report = make_report(questions, top_k=8)
    print(report.overall.figures["frame_ap"])  # Estimate(value=..., low=..., high=..., ...)
"""
