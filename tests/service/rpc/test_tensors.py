import numpy as np
import pytest

from clearweight.service import InvalidRequestError, Limits
from clearweight.service.core.types import InferResponse, Tensor
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.tensors import (
    CONTENTS,
    decode_infer,
    decode_parameters,
    encode_infer,
    encode_parameters,
)

VALUES = {
    "BOOL": np.array([True, False]),
    "BYTES": np.array([b"a", b""], dtype=object),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT64": np.array([-(2**63), 2**63 - 1]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 65535], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-32768, 32767], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "FP32": np.array([np.float32(0.1), np.inf], np.float32),
    "FP64": np.array([0.1, -np.inf]),
    "FP16": np.array([0.5, 2], np.float16),
}


@pytest.mark.parametrize(
    ("datatype", "raw"), [(name, raw) for name in VALUES for raw in (True, False) if raw or name in CONTENTS]
)
def test_every_datatype_round_trips_typed_and_raw(datatype, raw):
    written = encode_infer(InferResponse("m", "1", (Tensor("x", datatype, VALUES[datatype]),)), raw=raw)
    message = oip.ModelInferRequest(model_name="m", raw_input_contents=written.raw_output_contents)
    entry = message.inputs.add(name="x", datatype=datatype, shape=written.outputs[0].shape)
    if not raw:
        entry.contents.CopyFrom(written.outputs[0].contents)

    found = decode_infer(message, Limits()).inputs[0]

    assert found.datatype == datatype
    assert found.values.dtype == VALUES[datatype].dtype
    assert np.array_equal(found.values, VALUES[datatype])


@pytest.mark.parametrize(
    ("datatype", "field", "value"), [("INT8", "int_contents", 128), ("UINT16", "uint_contents", 2**16)]
)
def test_elements_out_of_range_are_refused(datatype, field, value):
    message = oip.ModelInferRequest(model_name="m")
    entry = message.inputs.add(name="x", datatype=datatype, shape=[1])
    getattr(entry.contents, field).append(value)

    with pytest.raises(InvalidRequestError, match="range"):
        decode_infer(message, Limits())


def test_parameters_round_trip_with_their_types():
    given = {"a": True, "b": 3, "c": "text", "d": 0.5}
    message = oip.ModelInferResponse()
    encode_parameters(given, message.parameters)

    found = decode_parameters(message.parameters)

    assert found == given
    assert {key: type(value) for key, value in found.items()} == {
        key: type(value) for key, value in given.items()
    }
