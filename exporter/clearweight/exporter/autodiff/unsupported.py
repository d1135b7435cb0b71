"""Operators whose gradient is declared unsupported, each with the reason; others without a rule are merely unknown."""

from collections.abc import Mapping
from types import MappingProxyType

from clearweight.exporter.autodiff.op_key import DEFAULT_DOMAIN, OpKey

_RECURRENT = "the gradient through a recurrent operator's many steps is not taken"
_CONTROL_FLOW = "the gradient through control flow and its subgraphs is not taken"
_INTEGER = (
    "it computes on integers; export the model with QuantizeLinear and DequantizeLinear round float operators, "
    "and the gradient passes straight through the roundings"
)
_SELECTION = "it selects or samples at run time, and the gradient to what it selects from is not taken"
_SEQUENCE = "sequences and optional values carry no gradient here, only tensors do"

UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        "GRU": _RECURRENT,
        "LSTM": _RECURRENT,
        "RNN": _RECURRENT,
        "If": _CONTROL_FLOW,
        "Loop": _CONTROL_FLOW,
        "Scan": _CONTROL_FLOW,
        "SequenceMap": _CONTROL_FLOW,
        "ConvInteger": _INTEGER,
        "DynamicQuantizeLinear": _INTEGER,
        "MatMulInteger": _INTEGER,
        "QLinearConv": _INTEGER,
        "QLinearMatMul": _INTEGER,
        "Compress": _SELECTION,
        "GridSample": _SELECTION,
        "MaxRoiPool": _SELECTION,
        "NonMaxSuppression": _SELECTION,
        "RoiAlign": _SELECTION,
        "Unique": _SELECTION,
        "ConcatFromSequence": _SEQUENCE,
        "OptionalGetElement": _SEQUENCE,
        "SequenceAt": _SEQUENCE,
        "SequenceConstruct": _SEQUENCE,
        "SplitToSequence": _SEQUENCE,
    }
)


def reason(key: OpKey) -> str:
    """Say why an operator without a rule has none."""
    if key.domain != DEFAULT_DOMAIN:
        return f"domain {key.domain!r} is not the standard one, whose operators alone have rules"
    return UNSUPPORTED.get(key.op_type, "nobody has written one yet")
