"""Our service beside others: how rounds become figures, and that the servers are asked the same."""

import numpy as np
import orjson
import pytest

from benchmarks.load import Measured
from benchmarks.served_cnn import bodies
from benchmarks.serving import compared, explained
from clearweight.service.rpc.generated import open_inference_pb2 as oip


def rounds(*speeds: float, p99: float = 10.0, errors: int = 0) -> list[Measured]:
    return [Measured(speed, p50_ms=1.0, p99_ms=p99, errors=errors) for speed in speeds]


def test_ratios_are_of_medians_and_their_range_is_of_rounds():
    found = {"clearweight": rounds(100, 300, 200, p99=8), "mlserver": rounds(50, 100, 400, errors=2)}
    rows = {(row.case, row.metric): row.value for row in compared("grpc", 16, found)}
    ours, theirs = "clearweight/grpc/predict/c16", "mlserver/grpc/predict/c16"

    assert rows[ours, "requests_per_second"] == 200
    assert rows[theirs, "requests_per_second"] == 100
    assert rows[ours, "over_mlserver"] == 2.0
    assert (rows[ours, "over_mlserver_min"], rows[ours, "over_mlserver_max"]) == (0.5, 3.0)
    assert rows[ours, "p99_over_mlserver"] == pytest.approx(0.8)
    assert (rows[ours, "error_count"], rows[theirs, "error_count"]) == (0, 6)
    assert not any("over_clearweight" in metric for _, metric in rows)


def test_an_explanation_is_charged_what_it_takes_beyond_a_prediction():
    found = {
        "explain": [Measured(1, p50, 9.0, 0) for p50 in (1.0, 1.5, 2.0)],
        "predict": [Measured(1, p50, 9.0, 1) for p50 in (0.5, 0.5, 1.5)],
    }
    bare = [{"predict": ms, "explain": 3 * ms} for ms in (0.25, 0.5, 0.25)]
    rows = {row.metric: row.value for row in explained("rest_json", found, bare)}

    assert rows["extra_over_ort_predict"] == 2.0  # of 2, 2 and 2
    assert (rows["p50_ms"], rows["predict_p50_ms"]) == (1.5, 0.5)
    assert (rows["ort_predict_ms"], rows["ort_explain_ms"]) == (0.25, 0.75)
    assert rows["error_count"] == 3


def test_every_protocol_carries_the_same_input(tmp_path):
    found = {name: path.read_bytes() for name, (path, _) in bodies(tmp_path).items()}
    (tensor,) = orjson.loads(found["rest_json"])["inputs"]
    expected = np.array(tensor["data"], np.float32)
    message = oip.ModelInferRequest.FromString(found["grpc"])

    assert np.array_equal(np.frombuffer(message.raw_input_contents[0], np.float32), expected)
    assert found["rest_binary"].endswith(expected.tobytes())
    assert tensor["shape"] == list(message.inputs[0].shape) == [1, 3, 32, 32]


def test_only_grpc_has_to_say_that_an_explanation_is_wanted(tmp_path):
    plain, asked = bodies(tmp_path), bodies(tmp_path, explain=True)

    assert plain["rest_json"][0].read_bytes() == asked["rest_json"][0].read_bytes()
    assert oip.ModelInferRequest.FromString(asked["grpc"][0].read_bytes()).parameters["explain"].bool_param
    assert not oip.ModelInferRequest.FromString(plain["grpc"][0].read_bytes()).parameters
