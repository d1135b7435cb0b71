"""Bodies and messages of the protocol, and what every answer has to look like."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx
import numpy as np
from numpy.typing import NDArray

from clearweight.service.rpc.generated import open_inference_pb2 as oip
from tests.conformance.target import Target

DTYPES = {"FP32": "<f4", "INT64": "<i8"}
BINARY_OUT = {"parameters": {"binary_data_output": True}}


@contextmanager
def given(case: object) -> Iterator[None]:
    """Say in a failure which of several requests it was."""
    try:
        yield
    except Exception as error:
        error.add_note(f"Asked with {str(case)[:300]}")
        raise


def tensor(t: Target, x: NDArray[Any] | None = None, **changes: Any) -> dict[str, Any]:
    """One input as JSON."""
    x = t.x if x is None else x
    name = t.oracle.inputs[0]["name"]
    return {"name": name, "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()} | changes


def body(t: Target, *inputs: Any, **rest: Any) -> dict[str, Any]:
    """A request as JSON."""
    return {"inputs": list(inputs) or [tensor(t)], **rest}


def binary(
    t: Target,
    x: NDArray[Any] | None = None,
    head: dict[str, Any] | None = None,
    tail: bytes = b"",
    **changes: Any,
) -> dict[str, Any]:
    """Content and headers of a request whose one input is binary."""
    raw = (t.x if x is None else x).astype("<f4").tobytes()
    entry = tensor(t, x)
    del entry["data"]
    entry["parameters"] = {"binary_data_size": len(raw)}
    text = json.dumps({"inputs": [entry | changes], **(head or {})}).encode()
    return {
        "content": text + raw + tail,
        "headers": {
            "Inference-Header-Content-Length": str(len(text)),
            "Content-Type": "application/octet-stream",
        },
    }


def outputs(reply: httpx.Response) -> dict[str, NDArray[Any]]:
    """Outputs of a reply by name, JSON or binary."""
    assert reply.status_code == 200, f"{reply.status_code} {reply.text[:300]}, expected 200"
    length = reply.headers.get("Inference-Header-Content-Length")
    document = json.loads(reply.content[: int(length)] if length else reply.content)
    at, found = int(length or 0), {}
    for item in document["outputs"]:
        size = (item.get("parameters") or {}).get("binary_data_size")
        dtype = DTYPES[item["datatype"]]
        if size is None:
            values = np.array(item["data"], dtype)
        else:
            assert "data" not in item, "An output has both data and binary_data_size."
            values = np.frombuffer(reply.content[at : at + size], dtype)
            at += size
        found[item["name"]] = values.reshape(item["shape"])
    assert at in (0, len(reply.content)), "The binary outputs do not fill the body."
    return found


def values(t: Target, reply: httpx.Response) -> NDArray[Any]:
    """The model's first output."""
    return outputs(reply)[t.oracle.outputs[0]["name"]]


def same(found: NDArray[Any], expected: NDArray[Any]) -> None:
    """Equal but for the order in which a kernel adds."""
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def refused(reply: httpx.Response, status: int) -> str:
    """The status, and a body of exactly one sentence under `error`."""
    assert reply.status_code == status, f"{reply.status_code} {reply.text[:300]}, expected {status}"
    assert reply.headers["content-type"].startswith("application/json"), reply.headers["content-type"]
    document = reply.json()
    assert set(document) == {"error"}, f"the body is {reply.text[:300]}"
    assert isinstance(document["error"], str)
    assert document["error"]
    text: str = document["error"]
    return text


def message(
    t: Target, x: NDArray[Any] | None = None, *, raw: bool = True, **changes: Any
) -> oip.ModelInferRequest:
    """A gRPC request; `shape`, `name` and `datatype` change the input, the rest the message."""
    x = t.x if x is None else x
    entry = {"name": t.oracle.inputs[0]["name"], "datatype": "FP32", "shape": list(x.shape)}
    entry |= {key: changes.pop(key) for key in tuple(entry) if key in changes}
    made = oip.ModelInferRequest(model_name=t.model)
    made.MergeFrom(oip.ModelInferRequest(**changes))
    made.inputs.add(**entry)
    if raw:
        made.raw_input_contents.append(x.tobytes())
    else:
        made.inputs[0].contents.fp32_contents.extend(x.ravel())
    return made


def ends(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """Code and text that a call ends with."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def fails(call: Callable[[], Any], code: grpc.StatusCode) -> None:
    """The call ends with a code."""
    found, text = ends(call)
    assert found is code, f"{found} {text}, expected {code}"


def raw_outputs(reply: oip.ModelInferResponse) -> dict[str, NDArray[Any]]:
    """Outputs of a raw gRPC reply by name."""
    pairs = zip(reply.outputs, reply.raw_output_contents, strict=True)
    return {
        item.name: np.frombuffer(raw, DTYPES[item.datatype]).reshape(list(item.shape)) for item, raw in pairs
    }
