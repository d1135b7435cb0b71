"""A stock tritonclient against a live server, over HTTP and gRPC; settings on standard input, answers on output.

In a process of its own: it brings its own copy of package ``inference``, and two copies cannot live in one process.
"""

import json
import sys
from types import ModuleType
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http


def answers(module: ModuleType, client: Any, asked: dict[str, Any], **form: bool) -> Any:
    """Infer with every option a caller usually sets."""
    x = np.array(asked["x"], np.float32)
    given = module.InferInput(asked["input"], list(x.shape), "FP32")
    given.set_data_from_numpy(x, **form)
    wanted = module.InferRequestedOutput(asked["output"], **form)
    found = client.infer(asked["model"], [given], outputs=[wanted], request_id="seven")
    assert found.get_response(**({"as_json": True} if module is triton_grpc else {}))["id"] == "seven"
    return found.as_numpy(asked["output"]).tolist()


def infer(asked: dict[str, Any]) -> dict[str, Any]:
    """Health, metadata, JSON, binary and gRPC."""
    found = {}
    with triton_http.InferenceServerClient(asked["http"]) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(asked["model"])
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"]
        assert client.get_model_metadata(asked["model"])["inputs"][0]["name"] == asked["input"]
        for name, form in (("http_binary", {"binary_data": True}), ("http_json", {"binary_data": False})):
            found[name] = answers(triton_http, client, asked, **form)
    with triton_grpc.InferenceServerClient(asked["grpc"]) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(asked["model"])
        assert client.get_model_metadata(asked["model"]).inputs[0].name == asked["input"]
        found["grpc"] = answers(triton_grpc, client, asked)
    return found


def repository(asked: dict[str, Any]) -> dict[str, Any]:
    """Index, unload and load over HTTP and gRPC."""
    model = asked["model"]
    headers = {"authorization": f"Bearer {asked['token']}"} if asked["token"] else None
    with (
        triton_http.InferenceServerClient(asked["admin"]) as over_http,
        triton_grpc.InferenceServerClient(asked["grpc"]) as over_grpc,
    ):
        over_grpc_index = over_grpc.get_model_repository_index(headers=headers, as_json=True)["models"]
        for index in (over_http.get_model_repository_index(headers=headers), over_grpc_index):
            assert {"name": model, "state": "READY"}.items() <= index[-1].items() or any(
                entry["name"] == model and entry["state"] == "READY" for entry in index
            )
        for client in (over_http, over_grpc):
            client.unload_model(model, headers=headers)
            client.load_model(model, headers=headers)
    return {}


if __name__ == "__main__":
    settings = json.load(sys.stdin)
    json.dump({"infer": infer, "repository": repository}[settings["what"]](settings), sys.stdout)
