import re
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clearweight.service import EngineOptions
from tests.service import artifacts
from tests.service.conftest import open_service
from tests.service.rest.messages import EXPLAIN, INFER, body, failed
from tests.service.rpc.test_oip import request


@pytest.fixture
def watched(models):
    yield from open_service(models / "tiny" / "10", EngineOptions(shadow=1.0, shadow_cpu_share=1.0))


def samples(http):
    text = http.get("/metrics").text
    families = text_string_to_metric_families(text)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def value(found, name, **labels):
    return found["clearweight_" + name, tuple(sorted(labels.items()))]


def use(service):
    service.http.post(INFER, json=body())
    service.http.post(EXPLAIN, json=body())
    service.http.post(INFER, json={})
    service.http.post("/v2/models/somebody-elses-secret/infer", json=body())
    service.engine.drain_shadow()


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: install Debian's prometheus package"
)
def test_promtool_finds_nothing_to_say(watched):
    use(watched)
    text = watched.http.get("/metrics").content

    found = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)

    assert (found.returncode, found.stdout, found.stderr) == (0, b"", b"")


def test_requests_are_counted_with_their_codes_and_time(watched):
    use(watched)
    found = samples(watched.http)

    which = {"model": "tiny", "version": "10", "protocol": "rest"}
    assert value(found, "requests_total", code="200", verb="predict", **which) == 1
    assert value(found, "requests_total", code="400", verb="predict", **which) == 1
    assert value(found, "requests_total", code="200", verb="explain", **which) == 1
    assert value(found, "request_duration_seconds_count", verb="predict", **which) == 2
    assert value(found, "batch_size_sum", verb="predict") == 2
    assert value(found, "explain_forward_passes_total", model="tiny") == 2
    assert value(found, "explain_completeness_error_count", model="tiny", method="input_x_gradient") == 2


def test_callers_cannot_invent_label_values(watched):
    use(watched)

    text = watched.http.get("/metrics").text

    assert "somebody" not in text
    assert 'model="unknown"' in text


def test_both_transports_share_one_label_set(service, channel):
    from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc

    def both():
        service.http.post(INFER, json=body())
        oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request())
        return samples(service.http)

    before, after = both(), both()

    for protocol, code in (("rest", "200"), ("grpc", "OK")):
        which = {"model": "tiny", "version": "10", "verb": "predict", "protocol": protocol}
        counted = [value(found, "requests_total", code=code, **which) for found in (before, after)]
        assert counted[1] - counted[0] == 1


def test_drift_is_exposed_as_distances_with_the_threshold_the_service_uses(watched):
    use(watched)
    found, report = samples(watched.http), watched.engine.health("tiny").drift

    which = {"model": "tiny", "version": "10"}
    assert value(found, "attribution_drift_compared_total", model="tiny", source="shadow") == 4
    assert value(found, "attribution_drift_count", model="tiny", metric="pooled_cosine", source="shadow") == 4
    assert {entry.label for entry in report.series} > {"", "b"}
    for entry in report.series:
        of_chart = {
            "metric": entry.metric,
            "detector": entry.detector,
            "class": entry.label or "all",
            **which,
        }
        assert value(found, "attribution_drift_threshold", **of_chart) == entry.limit
        assert value(found, "attribution_drift_statistic", **of_chart) == entry.statistic
        assert value(found, "attribution_drift_alarm", **of_chart) == 0
    delay = value(found, "attribution_drift_detection_delay_samples", **which)
    assert delay == report.power.delay_samples_p95
    assert value(found, "attribution_drift_window", metric="cosine", stat="mean", **which) >= 0
    assert value(found, "attribution_drift_last_sample_timestamp_seconds", **which) > 1.7e9
    metrics = {
        dict(labels)["metric"] for name, labels in found if name == "clearweight_attribution_drift_count"
    }
    assert metrics == {"cosine", "pooled_cosine", "pooled_top10_iou", "pooled_spearman", "disagreement"}


def test_verdicts_are_gauges(watched):
    found = samples(watched.http)
    which = {"model": "tiny", "version": "10"}
    assert value(found, "model_ready", **which) == 1
    assert value(found, "fidelity_passed", **which) == 1
    assert value(found, "integrity_passed", **which) == 1
    assert value(found, "integrity_checks_total", variant="compressed", outcome="passed", **which) == 1
    assert value(found, "integrity_checks_total", variant="reference", outcome="passed", **which) == 1

    model = watched.engine.repository.slot("tiny").model
    model.integrity = failed(model.integrity)
    found = samples(watched.http)
    assert value(found, "model_ready", **which) == 0
    assert value(found, "integrity_passed", **which) == 0


def test_refusals_and_skips_are_counted_by_reason(tmp_path):
    artifacts.write(tmp_path)
    for service in open_service(tmp_path, EngineOptions(shadow=1.0)):
        service.http.post(INFER, json=body())
        service.plane.draining = True
        service.http.post(INFER, json=body())
        found = samples(service.http)
        assert value(found, "attribution_drift_skipped_total", model="tiny", reason="no_reference") == 2
        assert value(found, "requests_rejected_total", reason="draining") == 1
        assert value(found, "requests_rejected_total", reason="queue_full") == 0


def test_two_services_in_one_process_do_not_share_metrics(models):
    options = replace(EngineOptions())
    for first in open_service(models, options):
        for second in open_service(models, options):
            first.http.post(INFER, json=body())
            assert not any(name == "clearweight_requests_total" for name, _ in samples(second.http))


def test_openmetrics_is_served_to_those_who_ask(watched):
    reply = watched.http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})

    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.text.endswith("# EOF\n")


def test_the_process_and_the_last_self_test_are_told(service):
    found = samples(service.http)

    assert found["process_resident_memory_bytes", ()] > 1e7
    tested = value(
        found, "integrity_last_check_timestamp_seconds", model="tiny", version="10", variant="compressed"
    )
    assert 0 <= time.time() - tested < 3600


def test_rates_of_skipped_rows_have_a_zero_to_start_from(watched):
    use(watched)
    found = samples(watched.http)

    for reason in ("sampled_out", "budget", "no_reference"):
        assert value(found, "attribution_drift_skipped_total", model="tiny", reason=reason) == 0


def test_every_row_is_compared_or_counted_as_skipped_at_every_scrape(models):
    options = EngineOptions(shadow=0.3, shadow_cpu_share=1.0, shadow_queue=1)
    for opened in open_service(models / "tiny" / "10", options):
        for answered in (3, 40):
            for _ in range(answered):
                opened.http.post(INFER, json=body())
            opened.engine.drain_shadow()
            found = samples(opened.http)
            skipped = [
                value(found, "attribution_drift_skipped_total", model="tiny", reason=reason)
                for reason in ("sampled_out", "budget", "no_reference")
            ]
            which = {"model": "tiny", "source": "shadow"}
            compared = found.get(("clearweight_attribution_drift_compared_total", tuple(which.items())), 0.0)
            rows = value(found, "batch_size_sum", verb="predict")
            assert compared + sum(skipped) == rows
            assert skipped[0] > 0


def test_a_model_without_a_fidelity_record_has_no_verdict(tmp_path):
    def unmeasured(manifest):
        return replace(manifest, fidelity=None)

    artifacts.write(tmp_path, change=unmeasured)
    for opened in open_service(tmp_path, EngineOptions()):
        names = {name for name, _ in samples(opened.http)}
    assert "clearweight_fidelity_passed" not in names
    assert "clearweight_integrity_passed" in names


def test_the_page_of_metrics_names_all_of_them_with_their_types_and_labels(watched):
    """Each under the labels that its samples carry, where it has samples."""
    use(watched)
    served = watched.http.get("/metrics").text
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(clearweight_\w+)` \| (\w+) \| (.+?) \|", page, re.MULTILINE)

    types = [line.split()[2:] for line in served.splitlines() if line.startswith("# TYPE clearweight_")]
    assert sorted((name, kind) for name, kind, _ in rows) == sorted((name, kind) for name, kind in types)
    carried = {
        re.sub(r"_(bucket|count|sum)$", "", name): {key for key, _ in labels if key != "le"}
        for name, labels in samples(watched.http)
    }
    for name, _, labels in rows:
        assert set(re.findall(r"`(\w+)`", labels)) == carried.get(
            name, set(re.findall(r"`(\w+)`", labels))
        ), name
