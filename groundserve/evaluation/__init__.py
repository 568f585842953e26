"""How well frames are ranked, spans found and absent things told: figures with their intervals.

Works on arrays; numpy is all that it needs. docs/evaluate.md defines the figures. Start with
`report`, which takes any model's scores as `ScoredQuestion`.

    from groundserve.evaluation.report import ScoredQuestion, make_report

    report = make_report(questions, top_k=8)
    print(report.overall.figures["frame_ap"])  # Estimate(value=..., low=..., high=..., ...)
"""
