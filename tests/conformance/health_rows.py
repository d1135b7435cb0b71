"""Rows 1 to 8: health and metadata."""

import re
import shutil
import signal
import time
from pathlib import Path

from tests.conformance.messages import binary, given, refused
from tests.conformance.target import Target

EXTENSIONS = {"binary_tensor_data", "classification", "explain", "model_repository"}


def live(t: Target) -> None:
    reply = t.http.get("/v2/health/live")
    assert reply.status_code == 200
    assert reply.json()["live"] is True


def ready(t: Target) -> None:
    reply = t.http.get("/v2/health/ready")
    assert reply.status_code == 200
    found = reply.json()
    assert found
    assert set(found) <= {"ready", "live"}
    assert all(value is True for value in found.values())


def ready_both_ways(t: Target) -> None:
    assert t.http.get("/v2/health/ready").json() == {"ready": True, "live": True}


def not_ready(t: Target, tmp: object) -> None:
    assert t.start is not None
    damaged = shutil.copytree(t.models, Path(str(tmp)) / "damaged")
    (damaged / "free" / "1" / "weights.cwt").write_bytes(b"damaged")
    with t.start(damaged) as other:
        assert "free" in refused(other.target.http.get("/v2/health/ready"), 503)
        refused(other.target.http.get("/v2/models/free/ready"), 503)
        refused(other.target.http.get("/v1/models/free"), 503)
        assert other.target.http.get("/v2/health/live").status_code == 200
        assert other.target.http.get(f"{t.path}/ready").status_code == 200


def draining(t: Target) -> None:
    assert t.start is not None
    with t.start(drain_seconds=1.0) as other:
        http = other.target.http
        assert http.get("/v2/health/ready").status_code == 200
        other.process.send_signal(signal.SIGTERM)
        end = time.monotonic() + 0.8
        while http.get("/v2/health/ready").status_code == 200 and time.monotonic() < end:
            time.sleep(0.01)
        refused(http.get("/v2/health/ready"), 503)
        assert http.get("/v2/health/live").status_code == 200


def server_metadata(t: Target) -> None:
    found = t.http.get("/v2").json()
    assert set(found) == {"name", "version", "extensions"}
    listed = set(found["extensions"])
    assert listed <= EXTENSIONS, f"no row exercises {listed - EXTENSIONS}"
    works = {
        "binary_tensor_data": t.http.post(t.infer, **binary(t)).status_code == 200,
        "explain": t.http.post(t.explain, **binary(t)).status_code == 200,
        "model_repository": t.admin.post("/v2/repository/index", content=b"{}").status_code == 200,
    }
    for name, working in works.items():
        assert (name in listed) == working, f"{name} is {'' if working else 'not '}there, {listed} are listed"


def server_metadata_with_slash(t: Target) -> None:
    reply = t.http.get("/v2/")
    assert reply.status_code == 200, f"{reply.status_code} {reply.text[:300]}, expected 200"
    assert reply.json() == t.http.get("/v2").json()


def model_metadata(t: Target) -> None:
    found = t.http.get(t.path).json()
    assert found["name"] == t.model
    assert found["versions"]
    assert all(isinstance(version, str) for version in found["versions"])
    assert re.fullmatch(r"[a-z0-9]+_[a-z0-9]+", found["platform"]), f"platform is {found['platform']!r}"
    for ours, theirs in ((t.oracle.inputs, found["inputs"]), (t.oracle.outputs, found["outputs"])):
        assert [{key: item[key] for key in ("name", "datatype", "shape")} for item in theirs] == ours
    assert all(isinstance(value, str) for value in found.get("properties", {}).values())


def versions(t: Target) -> None:
    plain = t.http.get(t.path).json()
    assert plain["versions"], "no versions are listed"
    version = plain["versions"][-1]
    assert t.http.get(f"{t.path}/versions/{version}").json() == plain
    assert t.http.get(f"{t.path}/versions/{version}/ready").status_code == 200
    refused(t.http.get(f"{t.path}/versions/4711"), 404)


def model_ready(t: Target) -> None:
    reply = t.http.get(f"{t.path}/ready")
    assert reply.status_code == 200
    assert reply.json() == {"name": t.model, "ready": True}
    refused(t.http.get("/v2/models/other/ready"), 404)


def unknown_paths(t: Target) -> None:
    for verb, path, status in (
        ("GET", "/v2/nothing", 404),
        ("POST", "/v2/models", 405),
        ("GET", t.infer, 405),
        ("DELETE", "/v2", 405),
    ):
        with given((verb, path)):
            refused(t.http.request(verb, path), status)


def model_list(t: Target) -> None:
    assert t.model in t.http.get("/v2/models").json()["models"]
