"""Rows 26 to 33: infer with binary tensors."""

import json
import struct

import numpy as np

from tests.conformance.messages import BINARY_OUT, binary, body, given, outputs, refused, same, tensor, values
from tests.conformance.target import Target

RAW = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}


def json_out(t: Target) -> None:
    reply = t.http.post(t.infer, **binary(t))
    assert reply.headers["content-type"].startswith("application/json"), reply.text[:300]
    same(values(t, reply), t.oracle(t.x))
    assert np.array_equal(values(t, reply), values(t, t.http.post(t.infer, json=body(t))))


def binary_out(t: Target) -> None:
    reply = t.http.post(t.infer, **binary(t, head=BINARY_OUT))
    expected = values(t, t.http.post(t.infer, json=body(t)))
    assert reply.headers["content-type"] == "application/octet-stream", reply.text[:300]
    length = int(reply.headers["Inference-Header-Content-Length"])
    assert int(reply.headers["content-length"]) == len(reply.content) == length + expected.nbytes
    entry = json.loads(reply.content[:length])["outputs"][0]
    assert entry["parameters"]["binary_data_size"] == expected.nbytes
    assert reply.content[length:] == expected.astype("<f4").tobytes()


def output_wins(t: Target) -> None:
    name = t.oracle.outputs[0]["name"]
    for default in (True, False):
        with given(default):
            asked = {
                "outputs": [{"name": name, "parameters": {"binary_data": not default}}],
                "parameters": {"binary_data_output": default},
            }
            reply = t.http.post(t.infer, **binary(t, head=asked))
            assert reply.status_code == 200, reply.text[:300]
            assert ("Inference-Header-Content-Length" in reply.headers) is not default
            same(values(t, reply), t.oracle(t.x))


def flags(t: Target) -> None:
    name = t.oracle.outputs[0]["name"]
    for flag in ("yes", 1):
        with given(flag):
            refused(t.http.post(t.infer, json=body(t, parameters={"binary_data_output": flag})), 400)
            asked = [{"name": name, "parameters": {"binary_data": flag}}]
            refused(t.http.post(t.infer, json=body(t, outputs=asked)), 400)


def mixed(t: Target) -> None:
    target = np.array([1, 4], "<i8")
    for first, raw in (("input", "input"), ("input", "target"), ("target", "input"), ("target", "target")):
        with given((first, raw)):
            parts = {
                "input": tensor(t),
                "target": {"name": "target", "shape": [2], "datatype": "INT64", "data": [1, 4]},
            }
            tail = (t.x.astype("<f4") if raw == "input" else target).tobytes()
            del parts[raw]["data"]
            parts[raw]["parameters"] = {"binary_data_size": len(tail)}
            text = json.dumps({"inputs": [parts.pop(first), *parts.values()]}).encode()
            headers = {"Inference-Header-Content-Length": str(len(text))}
            found = outputs(t.http.post(t.explain, content=text + tail, headers=headers))
            assert found["target"].tolist() == [1, 4]
            same(found["logits"], t.oracle(t.x))


def raw_request(t: Target) -> None:
    reply = t.http.post(t.infer, content=t.x[:1].astype("<f4").tobytes(), headers=RAW)
    assert reply.headers["content-type"] == "application/octet-stream", reply.text[:300]
    same(values(t, reply), t.oracle(t.x[:1]))
    for content in (t.x.tobytes(), b"", b"abc"):
        with given(f"{len(content)} bytes"):
            refused(t.http.post(t.infer, content=content, headers=RAW), 400)


def raw_request_refused(t: Target) -> None:
    refused(t.http.post("/v2/models/free/infer", content=b"\0" * 12, headers=RAW), 400)


def header_length(t: Target) -> None:
    for length in ("1000000", "-1", "ten", "1.5", ""):
        with given(length):
            asked = binary(t)
            asked["headers"]["Inference-Header-Content-Length"] = length
            refused(t.http.post(t.infer, **asked), 400)
    asked = binary(t)
    del asked["headers"]["Inference-Header-Content-Length"]
    refused(t.http.post(t.infer, **asked), 400)
    entry = tensor(t, parameters={"binary_data_size": t.x.nbytes})
    del entry["data"]
    refused(t.http.post(t.infer, json=body(t, entry)), 400)


def sizes(t: Target) -> None:
    whole = t.x.nbytes
    cases = {"bytes left over": binary(t, tail=b"\0"), "another shape": binary(t, shape=[1, *t.x.shape[1:]])}
    for size in (whole - 4, whole + 4, -4, str(whole), True):
        cases[f"size {size!r}"] = binary(t, parameters={"binary_data_size": size})
    for name, asked in cases.items():
        with given(name):
            refused(t.http.post(t.infer, **asked), 400)


def data_and_size(t: Target) -> None:
    refused(t.http.post(t.infer, **binary(t, data=[0.0])), 400)


def bad_elements(t: Target) -> None:
    for datatype, raw in (
        ("BYTES", struct.pack("<I", 99) + b"a"),
        ("BYTES", b"\x01"),
        ("BYTES", b""),
        ("BOOL", b"\x02"),
    ):
        with given((datatype, raw)):
            entry = tensor(t, shape=[1], datatype=datatype, parameters={"binary_data_size": len(raw)})
            del entry["data"]
            text = json.dumps({"inputs": [entry]}).encode()
            headers = {"Inference-Header-Content-Length": str(len(text))}
            refused(t.http.post(t.infer, content=text + raw, headers=headers), 400)
