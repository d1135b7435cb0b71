"""Each operator once more in every version and at the oldest and the newest opset.

An operator keeps its meaning over most versions, but what its rule emits must exist, and run, at every opset too.
"""

from collections.abc import Iterable
from dataclasses import replace

import onnx

from clearweight.exporter.autodiff import MAX_OPSET, MIN_OPSET, op_key
from tests.exporter.autodiff.case import Case

# Attributes and inputs that begin with an opset: a case that has them does not go below it.
_SINCE = {"num_outputs": 18, "antialias": 18, "axes": 18, "noop_with_empty_axes": 18}


def versions_of(op: str) -> list[int]:
    """The opsets between oldest and newest at which the operator's meaning or types changed."""
    found = []
    for opset in range(MIN_OPSET, MAX_OPSET + 1):
        try:
            version = onnx.defs.get_schema(op, opset, "").since_version
        except onnx.defs.SchemaError:
            continue
        if version not in found:
            found.append(version)
    return found


def other_versions(cases: Iterable[Case]) -> list[Case]:
    cases = list(cases)
    known = {case.key for case in cases}
    made = []
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.op, case)
    for op, case in first.items():
        opsets = {max(MIN_OPSET, version) for version in versions_of(op)} | {MAX_OPSET}
        for opset in sorted(opsets - {case.opset}):
            key = op_key("", op, opset)
            if op == "Swish" and opset > 24:
                continue  # a function in terms of opset 24, which onnxruntime 1.31 runs in no other
            if op.startswith("Reduce") and opset < 18 and op != "ReduceSum":
                continue  # axes were an attribute then: the families have cases of their own
            if op == "GroupNormalization" or (op == "Split" and opset < 18):
                continue  # their inputs changed: the families have cases of their own
            if key in known and opset not in {MIN_OPSET, MAX_OPSET}:
                continue
            if any(opset < since for name, since in _SINCE.items() if name in case.attrs):
                continue
            made.append(replace(case, opset=opset))
    return made
