"""Rows 9 to 25: infer with JSON."""

import json
import socket
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from tests.conformance.messages import body, given, outputs, refused, same, tensor, values
from tests.conformance.target import Target


def flat(t: Target) -> None:
    reply = t.http.post(t.infer, json=body(t))
    same(values(t, reply), t.oracle(t.x))
    assert reply.json()["model_name"] == t.model
    data = reply.json()["outputs"][0]["data"]
    assert not isinstance(data[0], list), "the reply is nested"


def nested(t: Target) -> None:
    replies = [
        t.http.post(t.infer, json=body(t, tensor(t, data=d))) for d in (t.x.ravel().tolist(), t.x.tolist())
    ]
    one, two = (reply.json() for reply in replies)
    assert replies[1].status_code == 200, replies[1].text
    assert one["outputs"] == two["outputs"]


def identifier(t: Target) -> None:
    assert t.http.post(t.infer, json=body(t, id="seven")).json()["id"] == "seven"
    assert t.http.post(t.infer, json=body(t)).json().get("id") is None


def selection(t: Target) -> None:
    name = t.oracle.outputs[0]["name"]
    for asked in ([], [{"name": name}]):
        with given(asked):
            assert list(outputs(t.http.post(t.infer, json=body(t, outputs=asked)))) == [name]


def selection_in_order(t: Target) -> None:
    for names in (["target", "logits"], ["logits", "explain"], ["explain"]):
        with given(names):
            asked = [{"name": name} for name in names]
            assert list(outputs(t.http.post(t.explain, json=body(t, outputs=asked)))) == names


def unknown_output(t: Target) -> None:
    refused(t.http.post(t.infer, json=body(t, outputs=[{"name": "other"}])), 400)


def bad_outputs(t: Target) -> None:
    for asked in ([{}], ["logits"], {"name": "logits"}, [{"name": 3}]):
        with given(asked):
            refused(t.http.post(t.infer, json=body(t, outputs=asked)), 400)


def input_names(t: Target) -> None:
    one = tensor(t)
    for inputs in (
        [one | {"name": "other"}],
        [],
        [one, one],
        [one, one | {"name": "y"}],
        [one | {"name": ""}],
    ):
        with given([item["name"] for item in inputs]):
            refused(t.http.post(t.infer, json={"inputs": inputs}), 400)


def element_count(t: Target) -> None:
    whole = t.x.ravel().tolist()
    for data in (whole[:-1], [*whole, 0.0], []):
        with given(f"{len(data)} elements"):
            refused(t.http.post(t.infer, json=body(t, tensor(t, data=data))), 400)


def shapes(t: Target) -> None:
    rows, *rest = t.x.shape
    size = int(np.prod(rest))
    for shape in ([rows, size], [rows, *rest[:-1], rest[-1] - 1], [0, *rest], [-1, *rest], [rows * size]):
        with given(shape):
            count = max(0, int(np.prod(shape)))
            refused(t.http.post(t.infer, json=body(t, tensor(t, shape=shape, data=[0.0] * count))), 400)
    for shape in ("2", [2.5, *rest], None):
        with given(shape):
            refused(t.http.post(t.infer, json=body(t, tensor(t, shape=shape))), 400)


def unknown_datatype(t: Target) -> None:
    for datatype in ("FLOAT", "", None, 1):
        with given(datatype):
            refused(t.http.post(t.infer, json=body(t, tensor(t, datatype=datatype))), 400)


def other_datatype(t: Target) -> None:
    count = t.x.size
    for datatype, element in (("FP64", 1.0), ("INT32", 1), ("BOOL", True)):
        with given(datatype):
            refused(
                t.http.post(t.infer, json=body(t, tensor(t, datatype=datatype, data=[element] * count))), 400
            )


def malformed(t: Target) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (b"", b"{", b"[]", b"3", b"null", b'{"inputs": 3}', b"{}", b"\xff\xfe", b'{"inputs": {}}'):
        with given(content):
            refused(t.http.post(t.infer, content=content, headers=headers), 400)
    for field in ("name", "shape", "datatype", "data"):
        with given(f"no {field}"):
            entry = tensor(t)
            del entry[field]
            refused(t.http.post(t.infer, json=body(t, entry)), 400)


def half_precision(t: Target) -> None:
    for datatype in ("FP16", "BF16"):
        with given(datatype):
            refused(t.http.post(t.infer, json=body(t, tensor(t, datatype=datatype))), 400)


def elements(t: Target) -> None:
    text = json.dumps(body(t))
    number = str(t.x.ravel().tolist()[20])
    assert number in text
    headers = {"Content-Type": "application/json"}
    for token in ("NaN", "Infinity", "-Infinity", '"text"', "null", "true", "[1]", "1e39", "1e999"):
        with given(token):
            content = text.replace(number, token, 1)
            refused(t.http.post(t.infer, content=content, headers=headers), 400)


def ragged(t: Target) -> None:
    data = t.x.tolist()
    inner = data[1]
    while isinstance(inner[0], list):
        inner = inner[-1]
    inner.pop()
    refused(t.http.post(t.infer, json=body(t, tensor(t, data=data))), 400)


def out_of_range(t: Target) -> None:
    for number in (2**63, 2**70, -(2**63) - 1):
        with given(number):
            target = {"name": "target", "shape": [2], "datatype": "INT64", "data": [0, number]}
            refused(t.http.post(t.explain, json=body(t, tensor(t), target)), 400)


def nested_parameter(t: Target) -> None:
    refused(t.http.post(t.infer, json=body(t, parameters={"a": {"b": 1}})), 400)
    refused(t.http.post(t.infer, json=body(t, tensor(t, parameters={"a": [1]}))), 400)


def unknown_parameter(t: Target) -> None:
    given_ = {"anything": 1, "truth": True, "word": "x", "part": 0.5}
    same(values(t, t.http.post(t.infer, json=body(t, parameters=given_))), t.oracle(t.x))


def rows(t: Target) -> None:
    together = values(t, t.http.post(t.infer, json=body(t)))
    alone = [values(t, t.http.post(t.infer, json=body(t, tensor(t, t.x[i : i + 1]))))[0] for i in (0, 1)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def claimed_size(t: Target) -> None:
    before = _resident(t)
    rest = t.x.shape[1:]
    huge = t.http.post(t.infer, json=body(t, tensor(t, shape=[10**6, *rest], data=[1.0])))
    expected = 413 if huge.status_code == 413 else 400
    refused(huge, expected)
    assert _resident(t) - before < 64e6


def claimed_body(t: Target) -> None:
    where = urlsplit(t.url)
    before = _resident(t)
    with socket.create_connection((where.hostname, where.port), timeout=3) as raw:
        raw.sendall(
            f"POST {t.infer} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Content-Length: {10**12}\r\n\r\n{{".encode()
        )
        assert b" 413 " in raw.recv(200)
    assert _resident(t) - before < 64e6


def body_limit(t: Target) -> None:
    assert t.start is not None
    with t.start(max_body_bytes=100_000) as other:
        refused(other.target.http.post(t.infer, content=b" " * 100_001), 413)
        refused(other.target.http.post(t.infer, content=(b" " * 10_000 for _ in range(100))), 413)
        assert other.target.http.post(t.infer, json=body(t)).status_code == 200


def _resident(t: Target) -> float:
    status = Path(f"/proc/{t.pid}/status")
    if t.pid is None or not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return 1024.0 * int(line.split()[1])


def unknown_model(t: Target) -> None:
    refused(t.http.post("/v2/models/other/infer", json=body(t)), 404)


def versioned_path(t: Target) -> None:
    listed = t.http.get(t.path).json()["versions"]
    assert listed, "no versions are listed"
    same(values(t, t.http.post(f"{t.path}/versions/{listed[-1]}/infer", json=body(t))), t.oracle(t.x))
    refused(t.http.post(f"{t.path}/versions/4711/infer", json=body(t)), 404)


def internal_failure(t: Target) -> None:
    row = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [100]}
    text = refused(t.http.post("/v2/models/brittle/infer", json={"inputs": [row]}), 500)
    assert text.startswith("Internal error. Reference "), text
    assert "Gather" not in text
    row["data"] = [3]
    assert t.http.post("/v2/models/brittle/infer", json={"inputs": [row]}).status_code == 200
