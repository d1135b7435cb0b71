"""Requests as callers write them, and what is read of replies."""

from dataclasses import replace

import numpy as np
import orjson

from tests.service import artifacts

INFER = "/v2/models/tiny/infer"
EXPLAIN = "/v2/models/tiny/explain"
X = artifacts.inputs(2)


def entry(x=X, **changes):
    return {"name": "input", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()} | changes


def body(*inputs, **rest):
    return {"inputs": list(inputs) or [entry()], **rest}


def binary(x=X, head=None, tail=b"", **changes):
    """Content and headers of a request whose one input is binary."""
    raw = x.astype("<f4").tobytes()
    given = {"name": "input", "shape": list(x.shape), "datatype": "FP32"}
    given["parameters"] = {"binary_data_size": len(raw)}
    text = orjson.dumps({"inputs": [given | changes], **(head or {})})
    return {"content": text + raw + tail, "headers": {"Inference-Header-Content-Length": str(len(text))}}


def outputs(reply):
    """Outputs of a reply by name, JSON or binary."""
    length = reply.headers.get("Inference-Header-Content-Length")
    document = orjson.loads(reply.content[: int(length)] if length else reply.content)
    at, found = int(length or 0), {}
    for item in document["outputs"]:
        size = item.get("parameters", {}).get("binary_data_size")
        dtype = {"FP32": "<f4", "INT64": "<i8"}[item["datatype"]]
        if size is None:
            values = np.array(item["data"], dtype)
        else:
            assert "data" not in item
            values = np.frombuffer(reply.content[at : at + size], dtype)
            at += size
        found[item["name"]] = values.reshape(item["shape"])
    assert at in (0, len(reply.content))
    return found


def refused(reply, status):
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    document = reply.json()
    assert set(document) == {"error"}
    assert isinstance(document["error"], str)
    assert document["error"]
    return document["error"]


def failed(report):
    return replace(report, state="failed", reason="Made to fail.")
