"""One parameter as the exporter hands it over: the values, and the code they are known to have."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact.bit_pattern import BIT_TYPES, DTYPES, bit_pattern
from clearweight.artifact.errors import CodedTensorError
from clearweight.artifact.tensor_name import check_tensor_name

MAX_CODEBOOK = 256
CHUNK = 1 << 20  # elements compared at a time, so that checking a large tensor allocates little


@dataclass(frozen=True, eq=False)
class CodedTensor:
    """A named tensor with, optionally, the codebook it was trained with.

    Parameters
    ----------
    name : str
        Key in ``weights.cwt`` and name of the ONNX initializer (SPEC.md section 3.2).
    values : array of any of the dtypes ``f2 f4 f8 i1 u1 i4 i8``
    codebook : float32, shape (k,), k <= 256, or None
        None: the tensor is stored as values.
    indices : uint8, same shape as ``values``, or None
        ``codebook[indices]`` equals ``values`` bit for bit.
    """

    name: str
    values: NDArray[Any]
    codebook: NDArray[np.float32] | None = None
    indices: NDArray[np.uint8] | None = None

    def validate(self) -> None:
        """Refuse a tensor that contradicts itself.

        Raises
        ------
        TensorNameError
            The name is not one the format accepts.
        CodedTensorError
            Unknown dtype, codebook without indices, shapes that differ, or a value that is not its code.
        """
        check_tensor_name(self.name)
        if self.values.dtype.newbyteorder("=") not in DTYPES:
            known = " ".join(str(dtype) for dtype in DTYPES)
            raise CodedTensorError(
                f"Tensor {self.name!r} has dtype {self.values.dtype}, expected one of {known}."
            )
        if (self.codebook is None) != (self.indices is None):
            raise CodedTensorError(
                f"Tensor {self.name!r} has only one of codebook and indices, expected both or none."
            )
        if self.codebook is not None and self.indices is not None:
            self._validate_code(self.codebook, self.indices)

    def _validate_code(self, codebook: NDArray[np.float32], indices: NDArray[np.uint8]) -> None:
        if self.values.dtype != np.float32 or codebook.dtype != np.float32 or indices.dtype != np.uint8:
            raise CodedTensorError(
                f"Tensor {self.name!r} has values {self.values.dtype}, codebook {codebook.dtype}, indices "
                f"{indices.dtype}; expected float32, float32, uint8."
            )
        if codebook.ndim != 1 or codebook.size > MAX_CODEBOOK or indices.shape != self.values.shape:
            raise CodedTensorError(
                f"Tensor {self.name!r} of shape {self.values.shape} has a codebook {codebook.shape} and "
                f"indices {indices.shape}; expected at most {MAX_CODEBOOK} entries and the tensor's shape."
            )
        flat_values, flat_indices = self.values.reshape(-1), indices.reshape(-1)
        entries = bit_pattern(codebook).astype(BIT_TYPES[4])
        for start in range(0, flat_values.size, CHUNK):
            code = flat_indices[start : start + CHUNK]
            if int(code.max()) >= codebook.size:
                raise CodedTensorError(
                    f"Tensor {self.name!r} has index {int(code.max())}, its codebook holds {codebook.size}."
                )
            wrong = np.flatnonzero(entries[code] != bit_pattern(flat_values[start : start + CHUNK]))
            if wrong.size:
                raise CodedTensorError(
                    f"Tensor {self.name!r} differs from codebook[indices] at {start + int(wrong[0])}: "
                    "the writer stores codes and would change the value."
                )
