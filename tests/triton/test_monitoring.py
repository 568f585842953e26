"""What the alerts and the dashboard read is there: of `serve --gateway` that answered a request."""

from __future__ import annotations

import re

import httpx2

from scripts import monitoring
from tests.triton.program import serving
from tests.unit.gateway.conftest import wait_until

METRIC = re.compile(r"\b(?:groundserve|nv)_\w+")


def test_a_scrape_has_every_metric(engine_dirs, clips, tmp_path):
    options = ["--gateway", "0", "--spool", tmp_path / "spool", "--metrics-host", "127.0.0.2"]
    with (
        serving(engine_dirs["cpu"], tmp_path, options=options) as started,
        httpx2.Client(base_url=started.addresses["gateway"], timeout=60) as client,
    ):
        wait_until(lambda: client.get("/readyz").status_code == 200)
        form = {"files": {"video": clips["vfr"].read_bytes()}, "data": {"query": "When?"}}
        assert client.post("/v1/score", **form).status_code == 200
        assert started.addresses["metrics"].startswith("http://127.0.0.2:")
        text = client.get("/metrics").text + httpx2.get(started.addresses["metrics"]).text
    told = set(re.findall(r"^(\w+)(?:{.*})? \S+$", text, re.MULTILINE))
    read = set(METRIC.findall("".join(monitoring.files().values())))
    assert read - told == {monitoring.QUEUE_SECONDS}
    assert 'nv_inference_request_success{model="front",' in text
    free = float(re.search(r"^groundserve_gateway_free_bytes (\S+)$", text, re.MULTILINE)[1])
    assert free > 0
