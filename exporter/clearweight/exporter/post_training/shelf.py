"""Arrays put aside in a file without a name, and taken back one at a time.

What compression knows of a layer is about as large as its weights, and is looked at layer by layer: the system keeps in
memory as much of the file as it has room for.
"""

import tempfile
import weakref
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Shelf:
    """One file for many arrays; it is gone with the last who could read it."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed when the shelf is gone
        weakref.finalize(self, self._file.close)

    def keep(self, arrays: Iterable[Array]) -> Sequence[Array]:
        """Put arrays aside as they come; the result reads each anew whenever it is asked for."""
        places = []
        for array in arrays:
            places.append((self._file.seek(0, 2), array.shape))
            self._file.write(np.ascontiguousarray(array).data.cast("B"))
        return _Kept(self, places)

    def read(self, start: int, shape: tuple[int, ...]) -> Array:
        """Read one array."""
        array = np.empty(shape)
        self._file.seek(start)
        self._file.readinto(array.data.cast("B"))
        return array


class _Kept(Sequence[Array]):
    """What was put aside together."""

    def __init__(self, shelf: Shelf, places: Sequence[tuple[int, tuple[int, ...]]]) -> None:
        self._shelf, self._places = shelf, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Array: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Array]: ...

    def __getitem__(self, index: int | slice) -> Array | Sequence[Array]:
        if isinstance(index, slice):
            return _Kept(self._shelf, self._places[index])
        return self._shelf.read(*self._places[index])
