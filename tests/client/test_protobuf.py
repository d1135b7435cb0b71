"""The wire format against the generated code, field by field, and against bytes that are none."""

import numpy as np
import pytest
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from clearweight.client import rpc
from clearweight.client.operation import Drift, Infer
from clearweight.client.protobuf import field, parse, varint
from clearweight.service.rpc.generated import explain_pb2 as pb
from clearweight.service.rpc.generated import open_inference_pb2 as oip

KINDS = {
    FieldDescriptor.TYPE_STRING: "text",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_INT64: "int",
    FieldDescriptor.TYPE_DOUBLE: "double",
}


def agrees(fields, descriptor):
    """Every field of a table is the descriptor's, by number, name and kind."""
    for number, (_, kind) in fields.items():
        found = descriptor.fields_by_number[number]
        assert found.is_repeated == isinstance(kind, list)
        inner = kind[0] if isinstance(kind, list) else kind
        if isinstance(inner, dict):
            agrees(inner, found.message_type)
        else:
            assert KINDS[found.type] == inner, found.full_name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (rpc._DRIFT, pb.DriftResponse),
        (rpc._INFERRED, oip.ModelInferResponse),
        (rpc._METADATA, oip.ModelMetadataResponse),
    ],
)
def test_the_tables_are_the_protos(fields, message):
    agrees(fields, message.DESCRIPTOR)


def test_every_field_of_the_drift_report_is_read():
    named = {found.name for found in pb.DriftResponse.DESCRIPTOR.fields}
    assert {name for name, _ in rpc._DRIFT.values()} == named
    for part in ("fidelity", "integrity", "drift"):
        message = pb.DriftResponse.DESCRIPTOR.fields_by_name[part].message_type
        (table,) = (kind for name, kind in rpc._DRIFT.values() if name == part)
        assert {name for name, _ in table.values()} == {found.name for found in message.fields}


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.booleans())
def test_parameters_survive(whole, part, text, flag):
    given_ = {"a": whole, "b": part, "c": text, "d": flag}
    x = np.zeros((2, 3), np.float32)
    method, message = rpc.encode(Infer("explain", "m", None, {"x": x}, given_))
    found = oip.ModelInferRequest.FromString(message)

    assert method == "/inference.GRPCInferenceService/ModelInfer"
    read = {
        key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in found.parameters.items()
    }
    assert read == {**given_, "explain": True}
    assert list(found.inputs[0].shape) == [2, 3]
    assert found.raw_input_contents == [x.tobytes()]
    reply = oip.ModelInferResponse(model_name="m", parameters=found.parameters)
    answer = rpc.decode(Infer("explain", "m", None, {}, {}), reply.SerializeToString())
    assert dict(answer.parameters) == read


def test_absent_fields_are_none_and_unknown_ones_are_passed_over():
    message = pb.DriftResponse(
        model="m", drift=pb.DriftResponse.Drift(compared=7, series=[{"metric": "cosine"}] * 2)
    )
    found = rpc.decode(
        Drift("m"), message.SerializeToString() + field(99, "later") + varint(98 << 3 | 5) + b"abcd"
    )

    assert found["fidelity"] is None
    assert found["drift"]["compared"] == 7
    assert found["drift"]["last_sample_timestamp_seconds"] is None
    assert [chart["metric"] for chart in found["drift"]["series"]] == ["cosine"] * 2


@given(st.binary(max_size=60))
def test_no_bytes_crash_it(data):
    try:
        parse(rpc._DRIFT, data)
    except ValueError:
        return


@pytest.mark.parametrize("data", [b"\x0a\x05ab", b"\x0a", b"\x80", b"\xff" * 20, b"\x0b"])
def test_what_ends_too_early_is_said(data):
    with pytest.raises(ValueError, match=r"ends|known"):
        parse(rpc._DRIFT, data)
