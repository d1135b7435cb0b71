import httpx
import pytest

from tests.service import artifacts


@pytest.mark.parametrize("rows", [1, 40, 120, 1000])
def test_a_body_of_any_length_is_not_taken_for_a_head(server, rows):
    # 1 kB to 1.5 MB: in one piece with its head, in two, in many.
    x = artifacts.inputs(rows)
    tensor = {"name": "input", "datatype": "FP32", "shape": list(x.shape), "data": x.ravel().tolist()}
    with httpx.Client() as client:
        for _ in range(2):  # the second on the same connection
            reply = client.post(f"{server.url}/v2/models/tiny/infer", json={"inputs": [tensor]})
            assert reply.status_code == 200
            assert reply.json()["outputs"][0]["shape"][0] == rows
