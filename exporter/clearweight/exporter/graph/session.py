"""A quiet, deterministic ONNX Runtime session for checks at export."""

import onnx
import onnxruntime as ort

from clearweight.exporter.graph.shape import BATCH
from clearweight.exporter.outside import has_outside, let_read

_ERRORS_ONLY = 3


def session(
    model: onnx.ModelProto | bytes, *, threads: int = 1, fixed_batch: int = 0, prepacked: bool = True
) -> ort.InferenceSession:
    """Open a model on the CPU; bytes must be self-contained.

    With ``fixed_batch`` it is planned for that many rows alone; ``prepacked`` False leaves weights as they are in the
    file. Telemetry is off, the order of summation is fixed and worker threads do not spin while idle.
    """
    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    if fixed_batch:
        options.add_free_dimension_override_by_name(BATCH, fixed_batch)
    options.use_deterministic_compute = True
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    outside = isinstance(model, onnx.ModelProto) and has_outside(model)
    if outside:
        let_read(options)
    elif not prepacked:
        options.add_session_config_entry("session.disable_prepacking", "1")
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
