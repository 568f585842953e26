"""deploy/monitoring is what the metrics in the code make of it, and each alert fires on its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts import monitoring
from tests.support.reference import REPOSITORY

RULES = yaml.safe_load(monitoring.files()["rules.yaml"])["groups"][0]["rules"]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
NAMES = [name.removeprefix("Groundserve") for name in ALERTS]

BUSY = 'nv_inference_request_success{model="front"}'
GATEWAY = 'groundserve_gateway_requests_total{route="/v1/score",status="%d"}'
# One value a minute. `a+bxn` begins at a and grows by b, n times.
CALM = {
    'up{job="groundserve"}': "1x40",
    "groundserve_ready": "1x40",
    BUSY: "0+60x40",
    'nv_inference_queue_duration_us{model="front"}': "0+1000x40",
    'groundserve_errors_total{class="UnavailableError"}': "0x40",
    'groundserve_errors_total{class="MediaError"}': "0+1x40",
    'groundserve_errors_total{class="InternalError"}': "0x40",
    **{f"groundserve_{name}_total": "0x40" for name in monitoring.COUNTERS},
    **{f"groundserve_{name}_total": "0+1x40" for name in ("cache_hits", "cache_misses")},
    **{
        f"groundserve_{name}_total": "0x40"
        for name in ("cache_failures", "cache_corrupted", "worker_deaths")
    },
    GATEWAY % 200: "0+60x40",
    GATEWAY % 503: "0x40",
    GATEWAY % 500: "0x40",
    "groundserve_gateway_waiting_requests": "0x40",
    "groundserve_gateway_ready_upstreams": "1x40",
    "groundserve_gateway_stored_bytes": "1000x40",
    "groundserve_gateway_max_stored_bytes": "100000x40",
    "groundserve_gateway_free_bytes": "100000000000x40",
}
ONCE = "0x25 1x15"
FIRES = {
    "Missing": {'up{job="groundserve"}': "1x25 0x15"},
    "NotReady": {"groundserve_ready": "1x25 0x15"},
    "ProcessDied": {"groundserve_stubs_died_total": ONCE},
    "RestartsFail": {"groundserve_failed_server_restarts_total": "0+1x40"},
    "Stalled": {"groundserve_servers_stalled_total": ONCE},
    "MemoryRestart": {"groundserve_memory_restarts_total": ONCE},
    "VllmRestart": {"groundserve_vllm_restarts_total": ONCE},
    "InternalErrors": {'groundserve_errors_total{class="InternalError"}': "0+1x40"},
    "Refuses": {'groundserve_errors_total{class="UnavailableError"}': "0+6x40"},
    "Waits": {'nv_inference_queue_duration_us{model="front"}': "0+700000000x40"},
    "DecodersDie": {"groundserve_worker_deaths_total": "0+1x40"},
    "VideosFail": {'groundserve_errors_total{class="MediaError"}': "0+30x40"},
    "CacheFails": {"groundserve_cache_failures_total": ONCE},
    "NoServer": {"groundserve_gateway_ready_upstreams": "1x25 0x15"},
    "GatewayFaults": {GATEWAY % 500: "0+3x40"},
    "GatewayRefuses": {GATEWAY % 503: "0+9x40"},
    "SpoolFull": {"groundserve_gateway_stored_bytes": "95000x40"},
    "DiskFull": {"groundserve_gateway_free_bytes": "1000000000x40"},
}


@pytest.fixture(scope="module")
def promtool() -> Path:
    found = shutil.which("promtool", path=f"{Path(sys.prefix)}:/usr/bin:/usr/local/bin")
    if found is None:
        pytest.fail("promtool is missing: make promtool, or apt-get install prometheus")
    return Path(found)


@pytest.mark.parametrize("name", monitoring.files())
def test_what_is_committed_is_what_the_code_makes(name):
    committed = (monitoring.TARGET / name).read_text("utf-8")
    assert committed == monitoring.files()[name], "run: python scripts/monitoring.py"


def test_every_alert_has_a_place_in_the_runbook():
    page = (REPOSITORY / monitoring.RUNBOOK).read_text("utf-8")
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", one).lower().replace(" ", "-") for one in headings}
    assert not {anchor for *_, anchor, _ in monitoring.ALERTS if anchor not in anchors}


def test_every_alert_fires_alone(promtool, tmp_path):
    (tmp_path / "rules.yaml").write_text(monitoring.files()["rules.yaml"])
    cases = []
    for name in (None, *NAMES):
        series = CALM | FIRES.get(name, {})
        cases.append(
            {
                "name": str(name),
                "interval": "1m",
                "input_series": [{"series": one, "values": it} for one, it in series.items()],
                "alert_rule_test": [expected(alert, name) for alert in ALERTS],
            }
        )
    test = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": cases}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))
    for command in (["check", "rules", "rules.yaml"], ["test", "rules", "test.yaml"]):
        run = subprocess.run([promtool, *command], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr


def expected(alert, name):
    fires = alert == f"Groundserve{name}"
    rule = ALERTS[alert]
    labels = dict(rule["labels"])
    if alert in ("GroundserveMissing",):
        labels["job"] = "groundserve"
    told = {"exp_labels": labels, "exp_annotations": rule["annotations"]}
    return {"eval_time": "30m", "alertname": alert, "exp_alerts": [told] if fires else []}
