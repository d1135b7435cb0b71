"""The compressed network as plain ONNX files, for people who want a file and none of our runtime.

Each form is one self-contained file that stock ONNX Runtime runs on a CPU. Beside them ``forms.json`` says what each
costs: its bytes, and how its answers on held-out inputs differ from those of the float32 network.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import canonical_json
from clearweight.exporter.graph import canonicalize, int8_onnx, session, sparse_onnx, weight_only, weights_of

RECORD = "forms.json"
FLOAT32 = "float32"  # under which the record holds the network that the forms are compared with
# Held-out inputs that every form answers.
COMPARED_INPUTS = 1000
# Where DequantizeLinear learnt INT4.
_INT4_OPSET = 21


@dataclass(frozen=True)
class FormRecord:
    """What one form costs.

    Attributes
    ----------
    bytes : of the file
    accuracy : share of right answers
    agreement : share of inputs with the float32 network's top class
    largest_error : of a logit, as a share of the float32 logits' range
    """

    bytes: int
    accuracy: float
    agreement: float
    largest_error: float


def sparse(model: onnx.ModelProto, _calibration: NDArray[np.float32]) -> bytes:
    """Return the file whose thin tensors are sparse initializers."""
    return sparse_onnx(model)


def float16(model: onnx.ModelProto, _calibration: NDArray[np.float32]) -> bytes:
    """Return the file whose parameters are float16 and whose arithmetic, input and output are float32.

    ONNX Runtime's CPU kernels compute float16 in float32 between casts on x86, so float16 arithmetic would only
    add roundings.
    """
    floats = [t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    return _bytes(weight_only(model, dict.fromkeys(floats, 16)).model)


def int4(model: onnx.ModelProto, _calibration: NDArray[np.float32]) -> bytes:
    """Return the file whose weights take 4 bits: MatMulNBits for products, DequantizeLinear of INT4 for the others."""
    names = [tensor.name for tensor in model.graph.initializer]
    newer = canonicalize(model, parameters=names, opset=_INT4_OPSET)
    return _bytes(weight_only(newer, dict.fromkeys(weights_of(newer), 4), four_bit_tensors=True).model)


def int8(model: onnx.ModelProto, calibration: NDArray[np.float32]) -> bytes:
    """Return the file whose weights and activations take 8 bits, calibrated on real inputs."""
    return _bytes(int8_onnx(model, calibration))


FORMS: Mapping[str, Callable[[onnx.ModelProto, NDArray[np.float32]], bytes]] = MappingProxyType(
    {
        "model.sparse.onnx": sparse,
        "model.float16.onnx": float16,
        "model.int8.onnx": int8,
        "model.int4.onnx": int4,
    }
)


def plain_forms(
    exact: onnx.ModelProto,
    deployed: Mapping[str, onnx.ModelProto],
    calibration: NDArray[np.float32],
    inputs: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    threads: int = 1,
) -> dict[str, bytes]:
    """Return every form by its file name, and the record of what each costs.

    Parameters
    ----------
    exact : the network in float32
    deployed : forms that are there already, by file name
    calibration : shows the activations' ranges
    inputs, labels : held out; the first 1000 are answered by each form
    """
    shown, right = inputs[:COMPARED_INPUTS], labels[:COMPARED_INPUTS]
    whole = _bytes(exact)
    aim = logits(whole, shown, threads)
    contents: dict[str, bytes] = {}
    records = {FLOAT32: compared(whole, aim, aim, right)}
    for name in dict.fromkeys((*FORMS, *deployed)):
        ready = deployed.get(name)
        contents[name] = FORMS[name](exact, calibration) if ready is None else _bytes(ready)
        records[name] = compared(contents[name], logits(contents[name], shown, threads), aim, right)
    record = {name: asdict(entry) for name, entry in records.items()}
    return contents | {RECORD: canonical_json.dumps({"inputs": len(shown), "forms": record})}


def compared(
    content: bytes, own: NDArray[np.float32], aim: NDArray[np.float32], labels: NDArray[np.int64]
) -> FormRecord:
    """Hold the logits of one file, (n, classes), against those of the float32 network."""
    spread = max(float(np.ptp(aim)), float(np.finfo(np.float32).tiny))
    return FormRecord(
        bytes=len(content),
        accuracy=float((own.argmax(1) == labels).mean()),
        agreement=float((own.argmax(1) == aim.argmax(1)).mean()),
        largest_error=float(np.abs(own - aim).max()) / spread,
    )


def logits(content: bytes, inputs: NDArray[np.float32], threads: int = 1) -> NDArray[np.float32]:
    """Run a file on stock ONNX Runtime, a batch at a time."""
    running = session(content, threads=threads)
    name = running.get_inputs()[0].name
    return np.concatenate(
        [running.run(None, {name: inputs[start : start + 256]})[0] for start in range(0, len(inputs), 256)]
    )


def _bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)
