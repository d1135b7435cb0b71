"""The whole way of a number: from the live service over Prometheus to a panel, and to somebody's pager.

``make test-deploy`` runs this; it needs Debian's prometheus and prometheus-alertmanager.
"""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace

import grpc
import httpx
import numpy as np
import pytest

from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from deploy.dashboards import FOLDER
from tests.deploy.observatory import Agent, Alertmanager, Prometheus, Webhook, free_port, within
from tests.deploy.presence import need
from tests.service import artifacts
from tests.service.conftest import start_server, stop_server

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(240)]
DEVICE = "camera-7"


class Load:
    """Requests on both transports, a few of them wrong, until the end of the test."""

    def __init__(self, server):
        self._server = server
        self._over = threading.Event()
        self.inputs = artifacts.inputs
        self._pool = ThreadPoolExecutor(2)
        self._work = [self._pool.submit(self._rest), self._pool.submit(self._grpc)]

    def _body(self, rows, seed):
        x = self.inputs(rows, seed)
        return {
            "inputs": [
                {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
            ]
        }

    def _rest(self):
        seed = 100
        with httpx.Client(base_url=self._server.url) as client:
            while not self._over.is_set():
                seed += 1
                for verb in ("infer", "explain"):
                    client.post(f"/v2/models/tiny/{verb}", json=self._body(4, seed)).raise_for_status()
                client.post("/v2/models/tiny/infer", json={})
                time.sleep(0.02)

    def _grpc(self):
        tensor = oip.ModelInferRequest.InferInputTensor(name="input", datatype="FP32", shape=[1, 1, 8, 8])
        with grpc.insecure_channel(f"127.0.0.1:{self._server.grpc_port}") as channel:
            stub = oip_grpc.GRPCInferenceServiceStub(channel)
            while not self._over.is_set():
                raw = artifacts.inputs(1, random.randrange(10**6)).tobytes()
                stub.ModelInfer(
                    oip.ModelInferRequest(model_name="tiny", inputs=[tensor], raw_input_contents=[raw])
                )
                time.sleep(0.02)

    def close(self):
        self._over.set()
        for work in self._work:
            work.result(30)
        self._pool.shutdown()


def wait_for_rates(centre):
    """Wait until both ways of scraping have two samples in every window, of a service that compares."""
    compared = "rate(clearweight_attribution_drift_compared_total[6s]) > 0"
    recorded = "model_metric_le:clearweight_attribution_drift_bucket:rate1h"
    within(60, lambda: len(centre.ask(compared)) == 2 and centre.ask(recorded))
    time.sleep(2)  # one more evaluation, for rules that read the recorded


@pytest.fixture(scope="module")
def watched(models, tmp_path_factory):
    """A service under load, scraped by a centre and by a device's agent that writes to the centre."""
    need("prometheus", "prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("observatory")
    with ExitStack() as over:
        server = start_server(models, shadow=1.0, shadow_cpu_share=1.0)
        over.callback(stop_server, server)
        load = Load(server)
        over.callback(load.close)
        hook = Webhook()
        over.callback(hook.close)
        scraped, port = f"127.0.0.1:{server.http_port}", free_port()
        centre = Prometheus(folder / "centre", scraped, port)
        over.callback(centre.stop)
        alertmanager = Alertmanager(folder / "alertmanager", port, f"{hook.url}/page", f"{hook.url}/ticket")
        over.callback(alertmanager.stop)
        agent = Agent(folder / "agent", scraped, centre.url, DEVICE)
        over.callback(agent.stop)
        for program in (centre, alertmanager, agent):
            program.wait()
        wait_for_rates(centre)
        yield SimpleNamespace(centre=centre, hook=hook, load=load)


def queries():
    for path in sorted(FOLDER.glob("*.json")):
        page = json.loads(path.read_text(encoding="utf-8"))
        for panel in page["panels"]:
            for target in panel.get("targets", ()):
                yield pytest.param(target["expr"], id=f"{path.stem}-{panel['title']}-{target['refId']}")


def replaced(expression):
    for name, value in (
        ("instance", ".*"),
        ("model", "tiny"),
        ("device", DEVICE),
        ("__rate_interval", "12s"),
    ):
        expression = expression.replace(f"${name}", value)
    return expression


@pytest.mark.parametrize("expression", list(queries()))
def test_every_panel_has_something_to_show(watched, expression):
    asked = replaced(expression)
    assert "$" not in asked

    found = watched.centre.ask(asked)

    assert found, asked
    assert any(np.isfinite(float(series["value"][1])) for series in found), found


def test_every_variable_offers_a_choice(watched):
    for path in FOLDER.glob("*.json"):
        for variable in json.loads(path.read_text(encoding="utf-8"))["templating"]["list"]:
            if variable["type"] == "query":
                series, label = (
                    variable["definition"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
                )
                found = watched.centre.ask(replaced(series))
                assert {one["metric"].get(label) for one in found} - {None}, variable["definition"]


def test_every_rule_evaluates_without_error(watched):
    groups = watched.centre.get("/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]

    assert len(rules) > 20
    assert [rule for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize(
    "series",
    [
        "verb:clearweight_requests:rate5m",
        "verb:clearweight_request_duration_seconds:p99_5m",
        "reason:clearweight_requests_rejected:ratio_rate5m",
        "model_metric:clearweight_attribution_drift:p95_15m",
        "model:clearweight_comparisons_skipped:ratio_rate15m",
        "model_metric:clearweight_attribution_drift_undefined:ratio_rate15m",
        "fleet:clearweight_devices:count",
        "model:clearweight_devices_in_alarm:ratio",
        "model_metric_le:clearweight_attribution_drift_bucket:rate1h",
    ],
)
def test_recorded_series_have_values(watched, series):
    assert watched.centre.ask(series)


def test_an_outage_of_the_centre_leaves_no_gap(watched):
    """The agent goes on scraping while the centre is gone, and sends what it kept when the centre is back."""
    watched.centre.stop()
    gone = time.time()
    time.sleep(8)
    back = time.time()
    watched.centre.start()
    watched.centre.wait()

    def stamps(which):
        (series,) = watched.centre.ask(f"clearweight_build_info{{{which}}}[5m]") or [{"values": []}]
        return [stamp for stamp, _ in series["values"]]

    device = f'device="{DEVICE}"'
    within(60, lambda: max(stamps(device)) > back + 3 and max(stamps('device=""')) > back)
    kept = stamps(device)
    assert len([stamp for stamp in kept if gone + 1 < stamp < back - 1]) >= 4
    around = [stamp for stamp in kept if gone - 3 < stamp < back + 3]
    assert max(np.diff(around)) < 2.5
    # What it scraped by itself has the gap that the device's has not.
    own = [stamp for stamp in stamps('device=""') if stamp > gone - 3]
    assert max(np.diff(own)) > back - gone - 2
    wait_for_rates(watched.centre)


def test_drifting_explanations_reach_the_pager(watched):
    """Inputs that the calibration has not seen; control chart, scrape, rule, Alertmanager, webhook."""
    assert watched.hook.alerts("/page") == []  # a service that does well pages nobody
    watched.load.inputs = artifacts.corrupted

    def paged():
        return [
            alert
            for alert in watched.hook.alerts("/page")
            if alert["labels"]["alertname"] == "ClearweightAttributionDrift" and alert["status"] == "firing"
        ]

    (first, *_) = within(
        60, paged, lambda: json.dumps(watched.centre.get("/api/v1/alerts")["data"]["alerts"])
    )

    assert first["labels"]["model"] == "tiny"
    assert first["labels"]["severity"] == "page"
    assert first["annotations"]["summary"] == "Explanations of model tiny drift from the reference"
    assert first["annotations"]["runbook_url"].endswith("#clearweightattributiondrift")
    # The same device drifts in the fleet's view, and with all of one device in alarm so does the fleet.
    assert within(30, lambda: watched.centre.ask("model:clearweight_devices_in_alarm:ratio == 1"))
    assert within(
        30,
        lambda: [
            a for a in watched.hook.alerts("/page") if a["labels"]["alertname"] == "ClearweightFleetDrift"
        ],
    )
