"""Plain ONNX with sparse initializers, for people who want the file and none of our runtime.

ONNX Runtime makes them dense when it loads the file: this is an exchange format, and says nothing about
memory. ``weights.cwt`` is smaller in every case.
"""

import numpy as np
import onnx

# A value and its INT64 index take 12 bytes where a dense float32 takes 4.
DENSITY_LIMIT = 1 / 3


def sparse_onnx(model: onnx.ModelProto) -> bytes:
    """Write a self-contained canonical model with its thin tensors as ``sparse_initializer``.

    A tensor becomes sparse if fewer than a third of its elements, but at least one, are other than zero.
    The result is the file's content: tools that parse and write it again may lose sparse initializers
    without a word (onnx-ir does), so nothing may touch it after this.

    References
    ----------
    ONNX IR specification, SparseTensorProto: linear indices, ascending.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    dense = list(written.graph.initializer)
    del written.graph.initializer[:]
    for tensor in dense:
        array = onnx.numpy_helper.to_array(tensor)
        # Masks by multiplication leave negative zeros behind: they count as zeros and come back positive.
        occupied = np.flatnonzero(array)
        if not 0 < occupied.size < DENSITY_LIMIT * array.size:
            written.graph.initializer.append(tensor)
            continue
        entry = written.graph.sparse_initializer.add()
        entry.dims.extend(tensor.dims)
        entry.values.CopyFrom(onnx.numpy_helper.from_array(array.reshape(-1)[occupied], tensor.name))
        entry.indices.CopyFrom(
            onnx.numpy_helper.from_array(occupied.astype(np.int64), f"{tensor.name}.indices")
        )
    # The full check infers shapes, which knows no sparse weights and refuses Conv and Gemm.
    onnx.checker.check_model(written, full_check=False)
    return written.SerializeToString(deterministic=True)
