"""Rows 51 to 55: explanations, overload and the end; beyond the protocol."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus

import grpc
import httpx
import numpy as np

from clearweight.service.rpc.generated import open_inference_pb2 as oip
from tests.conformance.messages import (
    BINARY_OUT,
    binary,
    body,
    ends,
    fails,
    message,
    outputs,
    raw_outputs,
    refused,
    tensor,
)
from tests.conformance.models import SHARE
from tests.conformance.target import Target
from tests.service import artifacts

ECHOED = (
    "method",
    "baseline",
    "steps",
    "seed",
    "gradient_ste",
    "explainer_sha256",
    "model_sha256",
    "resolution",
    "fidelity",
    "drift_state",
)


def shape_and_order(t: Target) -> None:
    replies = [t.http.post(t.explain, json=body(t, id="a")) for _ in range(2)]
    found = outputs(replies[0])
    assert list(found) == ["explain", "logits", "target", "completeness_error"]
    assert found["explain"].shape == t.x.shape
    assert np.array_equal(found["logits"], outputs(t.http.post(t.infer, json=body(t)))["logits"])
    assert replies[0].content == replies[1].content
    assert tuple(replies[0].json()["parameters"]) == ECHOED


def oracle_maps(t: Target) -> None:
    """Two inputs and two classes: where the oracle's maps differ, so do ours, and they are the oracle's."""
    net = artifacts.pruned(artifacts.network(), SHARE)
    maps = {}
    for target in (1, 3):
        for method in ("input_x_gradient", "gradient"):
            asked = {"method": method, "target": target}
            found = outputs(t.http.post(t.explain, json=body(t, parameters=asked)))
            expected = net.explain(t.x, np.array([target, target]), method)
            np.testing.assert_allclose(found["explain"], expected, rtol=1e-4, atol=1e-5)
            maps[target, method] = found["explain"]
            if "completeness_error" in found:
                assert np.abs(found["completeness_error"]).max() < 1e-4
    for method in ("input_x_gradient", "gradient"):
        assert not np.allclose(maps[1, method], maps[3, method])
        assert not np.allclose(maps[1, method][0], maps[1, method][1])


def every_way(t: Target) -> None:
    version = t.http.get(t.path).json()["versions"][-1]
    expected = outputs(t.http.post(t.explain, json=body(t)))["explain"]
    paths = (t.explain, f"{t.path}/versions/{version}/explain", f"/explanations/{t.model}")
    found = [outputs(t.http.post(path, json=body(t)))["explain"] for path in paths]
    found += [outputs(t.http.post(path, **binary(t, head=BINARY_OUT)))["explain"] for path in paths]
    v1 = t.http.post(f"/v1/models/{t.model}:explain", json={"instances": t.x.tolist()}).json()
    found.append(np.array(v1["explanations"], np.float32))
    asked = message(t, parameters={"explain": oip.InferParameter(bool_param=True)})
    found.append(raw_outputs(t.stub.ModelInfer(asked))["explain"])
    assert all(np.array_equal(expected, values) for values in found)


def no_explainer(t: Target) -> None:
    row = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}
    refused(t.http.post("/v2/models/free/explain", json={"inputs": [row]}), 501)


def _turns(count: float) -> dict[str, object]:
    return {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [count]}]}


def queue_full(t: Target) -> None:
    assert t.start is not None
    with t.start(predict_workers=1, predict_queue=1, inline_seconds=0.0) as other:
        url = f"{other.target.url}/v2/models/slow/infer"
        assert httpx.post(url, json=_turns(1.0), timeout=60).status_code == HTTPStatus.OK
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: httpx.post(url, json=_turns(1e5), timeout=60), range(8)))
        codes = {reply.status_code for reply in replies}
        assert codes == {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}, codes
        for reply in replies:
            if reply.status_code == HTTPStatus.TOO_MANY_REQUESTS:
                refused(reply, HTTPStatus.TOO_MANY_REQUESTS)
                assert int(reply.headers["Retry-After"]) >= 1
        assert httpx.post(url, json=_turns(1.0), timeout=60).status_code == HTTPStatus.OK
        asked = oip.ModelInferRequest(model_name="slow")
        asked.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(1e5)
        with ThreadPoolExecutor(8) as pool:
            codes = set(pool.map(lambda _: ends(partial(other.target.stub.ModelInfer, asked))[0], range(8)))
        assert codes == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}, codes


def deadline(t: Target) -> None:
    asked = oip.ModelInferRequest(model_name="slow")
    asked.inputs.add(name="x", datatype="FP32", shape=[1, 1]).contents.fp32_contents.append(5e5)
    fails(partial(t.stub.ModelInfer, asked, timeout=0.05), grpc.StatusCode.DEADLINE_EXCEEDED)
    asked.inputs[0].contents.fp32_contents[0] = 1.0
    fails(partial(t.stub.ModelInfer, asked, timeout=10), grpc.StatusCode.OK)


def explain_does_not_starve_predict(t: Target) -> None:
    """While explanations queue up, predictions are answered within a second, however busy the machine."""
    stop = threading.Event()
    many = body(t, tensor(t, np.repeat(t.x, 100, axis=0)))

    def explain() -> None:
        with httpx.Client(base_url=t.url, timeout=60) as client:
            while not stop.is_set():
                client.post(t.explain, json=many)

    callers = [threading.Thread(target=explain) for _ in range(4)]
    for caller in callers:
        caller.start()
    seconds = []
    try:
        for _ in range(60):
            started = time.perf_counter()
            assert t.http.post(t.infer, json=body(t)).status_code == HTTPStatus.OK
            seconds.append(time.perf_counter() - started)
    finally:
        stop.set()
        for caller in callers:
            caller.join()
    assert np.quantile(seconds, 0.99) < 1.0, seconds


def end_under_load(t: Target) -> None:
    """SIGTERM under load: until the server says that it leaves, no request fails, and it ends with exit code 0."""
    assert t.start is not None
    with t.start(drain_seconds=0.5) as other:
        codes, leaving = [], threading.Event()

        def call() -> None:
            with httpx.Client(base_url=other.target.url, timeout=60) as client:
                while not leaving.is_set():
                    codes.append(client.post(t.infer, json=body(t)).status_code)
                    if client.get("/v2/health/ready").status_code != HTTPStatus.OK:
                        leaving.set()

        callers = [threading.Thread(target=call) for _ in range(4)]
        for caller in callers:
            caller.start()
        while len(codes) < 20 and not leaving.is_set():
            time.sleep(0.01)
        other.process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join()
        assert other.process.wait(60) == 0
        assert set(codes) == {HTTPStatus.OK}
