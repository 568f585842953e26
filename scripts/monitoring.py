"""Write deploy/monitoring: Prometheus rules and a Grafana dashboard, from the metrics in the code.

python scripts/monitoring.py; a test compares what is committed with what this writes.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from groundserve.serving.status import COUNTERS
from python_backend.meter import COUNTER_NAMES
from python_backend.stopwatch import STAGES
from python_backend.triton._errors import ERROR_CLASSES

TARGET = Path(__file__).parents[1] / "deploy" / "monitoring"
RUNBOOK = "docs/runbook.md"
GATEWAY = "groundserve_gateway"
WORK = '{route=~"/v1/(score|ask|chat/completions)"}'
QUEUE_SECONDS = "groundserve_queue_seconds"
LEAST_RATE = "1e-9"  # no division by 0 where nobody asks


def counter(name: str) -> str:
    """Return the metric of a counter of the code; KeyError where the code has none."""
    if name not in (*COUNTERS, *COUNTER_NAMES):
        raise KeyError(name)
    return f"groundserve_{name}_total"


def grown(*names: str, over: str) -> str:
    """Return the growth of counters."""
    return " + ".join(f"increase({counter(name)}[{over}])" for name in names)


def errors(*classes: str, over: str = "5m") -> str:
    """Return the rate of errors of these classes."""
    if not set(classes) <= set(ERROR_CLASSES):
        raise KeyError(classes)
    return f'sum(rate(groundserve_errors_total{{class=~"{"|".join(classes)}"}}[{over}]))'


ANSWERED = 'sum(rate(nv_inference_request_success{model=~"front|front_stream"}[5m]))'
REFUSED = f'sum(rate({GATEWAY}_requests_total{{status=~"429|503"}}[5m]))'
FAILED = f'sum(rate({GATEWAY}_requests_total{{status="500"}}[5m]))'
REQUESTS = f"sum(rate({GATEWAY}_requests_total[5m]))"
OURS = errors(*ERROR_CLASSES)

# What a request waits: in the queues of all models, and before that at the gateway, where as many
# wait as arrive in that time (Little's law).
QUEUE = (
    "sum(rate(nv_inference_queue_duration_us[2m])) / 1e6"
    f" / clamp_min({ANSWERED.replace('5m', '2m')}, {LEAST_RATE})"
    f" + (sum(avg_over_time({GATEWAY}_waiting_requests[2m]))"
    f" / clamp_min(sum(rate({GATEWAY}_requests_total{WORK}[2m])), {LEAST_RATE}) or vector(0))"
)

# Name, expression, for, severity, anchor of the runbook, what is said.
ALERTS = (
    ("Missing", 'up{job="groundserve"} == 0', "1m", "page", "no-metrics", "serve does not answer"),
    ("NotReady", "groundserve_ready == 0", "1m", "page", "not-ready", "requests fail"),
    ("ProcessDied", f"{grown('servers_died', 'stubs_died', over='10m')} > 0", "0m", "ticket",
     "a-process-died", "tritonserver or a model's process ended; callers saw it"),
    ("RestartsFail", f"{grown('failed_server_restarts', 'failed_model_reloads', over='10m')} > 2",
     "0m", "page", "restarts-fail", "what ended cannot be started again"),
    ("Stalled", f"{grown('servers_stalled', over='30m')} > 0", "0m", "ticket", "it-stood-still",
     "tritonserver did not answer and was killed"),
    ("MemoryRestart", f"{grown('memory_restarts', over='1h')} > 0", "0m", "ticket",
     "too-much-memory", "tritonserver held too much memory"),
    ("VllmRestart", f"{grown('vllm_restarts', over='30m')} > 0", "0m", "ticket", "vllm-ended",
     "vLLM was started again"),
    ("InternalErrors", f"{errors('InternalError')} > 0", "1m", "page", "internal-errors",
     "a fault of the server"),
    ("Refuses", f"{errors('UnavailableError')} / ({ANSWERED} + {OURS}) > 0.05", "5m", "page",
     "overload", "more than 5% of the requests are refused"),
    ("Waits", f"{QUEUE_SECONDS} > 10", "5m", "ticket", "overload", "requests wait over 10 s"),
    ("DecodersDie", f"{grown('worker_deaths', over='15m')} > 5", "0m", "ticket", "videos-fail",
     "processes that read videos die"),
    ("VideosFail", f"{errors('MediaError')} / ({ANSWERED} + {OURS}) > 0.2", "15m", "ticket",
     "videos-fail", "more than 20% of the videos cannot be read"),
    ("CacheFails", f"{grown('cache_failures', 'cache_corrupted', over='15m')} > 0", "0m", "ticket",
     "the-cache-fails", "the disk refuses the feature cache, or damages it"),
    ("NoServer", f"{GATEWAY}_ready_upstreams == 0", "1m", "page", "not-ready",
     "the gateway has no server"),
    ("GatewayFaults", f"{FAILED} / {REQUESTS} > 0.01", "5m", "page", "internal-errors",
     "more than 1% of the answers are faults"),
    ("GatewayRefuses", f"{REFUSED} / {REQUESTS} > 0.05", "5m", "page", "overload",
     "more than 5% of the requests are refused"),
    ("SpoolFull", f"{GATEWAY}_stored_bytes / {GATEWAY}_max_stored_bytes > 0.9", "10m", "ticket",
     "the-spool-is-full", "uploads make others' room"),
    ("DiskFull", f"{GATEWAY}_free_bytes < {5 * 2**30}", "5m", "page", "the-spool-is-full",
     "less than 5 GiB are free where videos are stored"),
)  # fmt: skip


def rates(*names: str) -> dict[str, str]:
    """Return the rate of each counter, under its name."""
    return {f"rate({counter(name)}[5m])": name for name in names}


def hourly(*names: str) -> dict[str, str]:
    """Return the growth of each counter in an hour, under its name."""
    return {grown(name, over="1h"): name for name in names}


def stage_seconds(stage: str) -> dict[str, str]:
    """Return two quantiles of a stage's time."""
    return {
        f"histogram_quantile({share}, sum by (le) "
        f'(rate(groundserve_stage_seconds_bucket{{stage="{stage}"}}[5m])))': f"{share:.0%}"
        for share in (0.5, 0.95)
    }


HITS, MISSES = (f"rate({counter(name)}[5m])" for name in ("cache_hits", "cache_misses"))

# Row -> panels: title, unit, expressions with their legends.
PANELS: dict[str, list[tuple[str, str, dict[str, str]]]] = {
    "Now": [
        ("Ready", "none", {"groundserve_ready": "server", f"{GATEWAY}_ready_upstreams": "servers"}),
        (
            "Requests",
            "reqps",
            {
                f"sum by (route) (rate({GATEWAY}_requests_total{WORK}[5m]))": "{{route}}",
                ANSWERED: "answered by Triton",
            },
        ),
        (
            "Time of a request, 95%",
            "s",
            {
                f"histogram_quantile(0.95, sum by (le, route) "
                f"(rate({GATEWAY}_request_seconds_bucket[5m])))": "{{route}}"
            },
        ),
    ],
    "Load": [
        (
            "Waiting",
            "none",
            {
                f"{GATEWAY}_waiting_requests": "gateway",
                "sum by (model) (nv_inference_pending_request_count)": "{{model}}",
            },
        ),
        ("Time in queues", "s", {QUEUE_SECONDS: "a request"}),
        (
            "Refusals",
            "reqps",
            {
                errors("UnavailableError"): "server",
                f'sum by (status) (rate({GATEWAY}_requests_total{{status=~"4..|5.."}}[5m]))': (
                    "gateway {{status}}"
                ),
            },
        ),
        ("Jobs", "none", {f"{GATEWAY}_jobs_{state}": state for state in ("queued", "running")}),
    ],
    "Stages, 50% and 95%": [(stage, "s", stage_seconds(stage)) for stage in STAGES],
    "Faults": [
        (
            "Errors by class",
            "reqps",
            {"sum by (class) (rate(groundserve_errors_total[5m]))": "{{class}}"},
        ),
        ("Ended and started again, 1 h", "none", hourly(*COUNTERS)),
        ("Processes that read videos and died, 1 h", "none", hourly("worker_deaths")),
    ],
    "Work and stores": [
        ("Frames a second", "none", rates("frames_decoded", "vision_frames")),
        (
            "Tokens a second",
            "none",
            rates("prefix_tokens", "prompt_tokens", "generated_tokens"),
        ),
        ("Cache: hits", "percentunit", {f"{HITS} / ({HITS} + {MISSES})": "share"}),
        (
            "Cache: trouble, 1 h",
            "none",
            hourly("cache_evictions", "cache_corrupted", "cache_failures"),
        ),
        (
            "Stored",
            "bytes",
            {
                f"{GATEWAY}_stored_bytes": "videos",
                f"{GATEWAY}_max_stored_bytes": "most",
                f"{GATEWAY}_free_bytes": "free on the disk",
                "groundserve_cache_bytes": "feature cache",
            },
        ),
    ],
}


def rules() -> dict[str, Any]:
    """Return the rules file."""
    alerts = [
        {
            "alert": f"Groundserve{name}",
            "expr": expression,
            "for": waits,
            "labels": {"severity": severity},
            "annotations": {"summary": said, "runbook": f"{RUNBOOK}#{anchor}"},
        }
        for name, expression, waits, severity, anchor, said in ALERTS
    ]
    recorded = [{"record": QUEUE_SECONDS, "expr": QUEUE}]
    return {"groups": [{"name": "groundserve", "rules": [*recorded, *alerts]}]}


def dashboard() -> dict[str, Any]:
    """Return the dashboard; three panels side by side."""
    panels: list[dict[str, Any]] = []
    source = {"type": "prometheus", "uid": "${source}"}
    top = 0
    for row, members in PANELS.items():
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        panels.append({"type": "row", "title": row, "gridPos": place, "panels": []})
        for number, (title, unit, expressions) in enumerate(members):
            place = {"x": number % 3 * 8, "y": top + 1 + number // 3 * 7, "w": 8, "h": 7}
            targets = [
                {"refId": chr(ord("A") + at), "expr": expression, "legendFormat": legend}
                for at, (expression, legend) in enumerate(expressions.items())
            ]
            panels.append(
                {
                    "type": "timeseries",
                    "title": title,
                    "datasource": source,
                    "gridPos": place,
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                    "targets": targets,
                }
            )
        top += 1 + -(-len(members) // 3) * 7
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    variable = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}
    return {
        "uid": "groundserve",
        "title": "groundserve",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [variable]},
        "panels": panels,
    }


def files() -> dict[str, str]:
    """Return what is in the folder, by name."""
    head = "# Written by scripts/monitoring.py.\n"
    return {
        "rules.yaml": head + yaml.safe_dump(rules(), sort_keys=False, width=100),
        "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
    }


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for name, text in files().items():
        (TARGET / name).write_text(text, "utf-8")
