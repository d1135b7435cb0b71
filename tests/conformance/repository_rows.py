"""Rows 34 to 40: KServe V1 and the model repository extension."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from tests.conformance.messages import body, given, outputs, refused, same, values
from tests.conformance.target import Target

STATES = {"UNKNOWN", "READY", "UNAVAILABLE", "LOADING", "UNLOADING"}


def v1_models(t: Target) -> None:
    assert t.model in t.http.get("/v1/models").json()["models"]
    reply = t.http.get(f"/v1/models/{t.model}")
    assert reply.status_code == 200
    assert (reply.json()["name"], reply.json()["ready"]) in ((t.model, True), (t.model, "True"))
    refused(t.http.get("/v1/models/other"), 404)


def v1_predict(t: Target) -> None:
    for key in ("instances", "inputs"):
        with given(key):
            reply = t.http.post(f"/v1/models/{t.model}:predict", json={key: t.x.tolist()})
            assert reply.status_code == 200, reply.text[:300]
            same(np.array(reply.json()["predictions"], np.float32), t.oracle(t.x))


def v1_refused(t: Target) -> None:
    path = f"/v1/models/{t.model}:predict"
    for asked in (
        {},
        {"instances": []},
        {"instances": 3},
        {"instances": [["a"]]},
        {"instances": [[1.0]]},
        [],
    ):
        with given(asked):
            refused(t.http.post(path, json=asked), 400)
    refused(t.http.post("/v1/models/other:predict", json={"instances": t.x.tolist()}), 404)


def v1_explain(t: Target) -> None:
    asked = {"instances": t.x.tolist()}
    found = t.http.post(f"/v1/models/{t.model}:explain", json=asked).json()
    predicted = t.http.post(f"/v1/models/{t.model}:predict", json=asked).json()
    assert set(found) == {"predictions", "explanations"}
    assert found["predictions"] == predicted["predictions"]
    assert np.array(found["explanations"]).shape == t.x.shape


def index(t: Target) -> None:
    path = "/v2/repository/index"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for asked in (
        {"json": {"ready": True}},
        {"json": {}},
        {"content": b""},
        {"content": b"{}", "headers": form},
    ):
        with given(asked):
            reply = t.admin.post(path, **asked)
            assert reply.status_code == 200, f"{reply.status_code} {reply.text[:300]}, expected 200"
            entries = {entry["name"]: entry for entry in reply.json()}
            assert entries[t.model]["state"] == "READY"
            assert all(entry["state"] in STATES and "reason" in entry for entry in reply.json())


def unload_and_load(t: Target) -> None:
    with _unloaded(t) as load:
        listed = t.admin.post("/v2/repository/index", json={})
        assert listed.status_code == 200, f"{listed.status_code} {listed.text[:300]}, expected 200"
        assert (t.model, "READY") not in {(entry["name"], entry["state"]) for entry in listed.json()}
        meanwhile = t.http.post(t.infer, json=body(t))
        refused(meanwhile, 404 if meanwhile.status_code == 404 else 503)
    loaded = load()
    assert loaded.status_code == 200, f"{loaded.status_code} {loaded.text[:300]}, expected 200"
    same(values(t, t.http.post(t.infer, json=body(t))), t.oracle(t.x))


def unloaded_is_unavailable(t: Target) -> None:
    with _unloaded(t):
        refused(t.http.post(t.infer, json=body(t)), 503)
        refused(t.http.get(f"{t.path}/ready"), 503)


@contextmanager
def _unloaded(t: Target) -> Iterator[Callable[[], httpx.Response]]:
    """Unload the model, and load it again afterwards; what is given repeats the last."""
    path = f"/v2/repository/models/{t.model}"

    def load() -> httpx.Response:
        return t.admin.post(f"{path}/load", content=b"")

    reply = t.admin.post(f"{path}/unload", content=b"")
    assert reply.status_code == 200, f"{reply.status_code} {reply.text[:300]}, expected 200"
    try:
        yield load
    finally:
        load()


def unknown_load(t: Target) -> None:
    refused(t.admin.post("/v2/repository/models/other/load", content=b""), 404)
    refused(t.admin.post("/v2/repository/models/other/unload", content=b""), 404)


def damaged_load(t: Target, tmp: object) -> None:
    assert t.start is not None
    models = shutil.copytree(t.models, Path(str(tmp)) / "models")
    with t.start(models) as other:
        stored = models / "free" / "1" / "weights.cwt"
        stored.write_bytes(stored.read_bytes()[:-1] + b"?")
        reply = other.target.admin.post("/v2/repository/models/free/load", content=b"")
        assert reply.status_code >= 400, reply.text
        refused(reply, reply.status_code)
        row = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 3, 2]}
        served = other.target.http.post("/v2/models/free/infer", json={"inputs": [row]})
        assert outputs(served)["y"].tolist() == [[3.0]]
        entries = other.target.admin.post("/v2/repository/index", content=b"").json()
        assert any(entry["name"] == "free" and entry["reason"] for entry in entries), entries


def hostile_names(t: Target) -> None:
    for name in (
        "%2e%2e",
        "%2e%2e%2fother",
        "%2Fetc%2Fpasswd",
        "a%2Fb",
        "..%5Cother",
        "%00",
        "." * 3,
        "a" * 65,
    ):
        with given(name):
            # Escaped, or the client would tidy the path itself.
            refused(t.admin.post(f"/v2/repository/models/{name}/load", content=b""), 400)


def inline_models(t: Target) -> None:
    path = f"/v2/repository/models/{t.model}/load"
    for parameters in ({"config": "{}"}, {"file:1/predict.onnx": "AAAA"}, {"a": {"b": 1}}):
        with given(parameters):
            refused(t.admin.post(path, json={"parameters": parameters}), 400)


def no_repository_without_admin(t: Target) -> None:
    refused(t.http.post("/v2/repository/index", content=b""), 404)
    refused(t.http.post(f"/v2/repository/models/{t.model}/load", content=b""), 404)
