"""A stock tritonclient against a live server. Runs in a process of its own: it brings its own copy of package
``inference``, and two copies cannot live in one process. Usage: tritonclient_session.py HTTP_PORT GRPC_PORT.
"""

import json
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http


def answers(module, client, x, **form):
    given = module.InferInput("input", list(x.shape), "FP32")
    given.set_data_from_numpy(x, **form)
    asked = module.InferRequestedOutput("logits", **form)
    chosen = client.infer("tiny", [given], outputs=[asked], request_id="seven", model_version="10")
    everything = client.infer("tiny", [given])
    return chosen.as_numpy("logits"), everything.as_numpy("logits")


def main(http_port, grpc_port):
    x = np.linspace(-1, 1, 128, dtype=np.float32).reshape(2, 1, 8, 8)
    found = {}
    with triton_http.InferenceServerClient(f"127.0.0.1:{http_port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny")
        assert not client.is_model_ready("other")
        found["server"] = client.get_server_metadata()
        found["model"] = client.get_model_metadata("tiny")
        for name, form in (("http_binary", {"binary_data": True}), ("http_json", {"binary_data": False})):
            found[name] = [logits.tolist() for logits in answers(triton_http, client, x, **form)]
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{grpc_port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny", "9")
        assert client.get_server_metadata().name == found["server"]["name"]
        assert [i.name for i in client.get_model_metadata("tiny").inputs] == ["input"]
        found["grpc"] = [logits.tolist() for logits in answers(triton_grpc, client, x)]
        given = triton_grpc.InferInput("input", list(x.shape), "FP32")
        given.set_data_from_numpy(x)
        explained = client.infer("tiny", [given], parameters={"explain": True, "method": "gradient"})
        found["explain"] = explained.as_numpy("explain").tolist()
        try:
            client.infer("other", [given])
        except triton_grpc.InferenceServerException as error:
            found["unknown"] = error.status()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
