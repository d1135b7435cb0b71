"""What a reference on another machine is, whichever protocol it is called over.

Inputs leave the device: so it is never a default, and who turns it on says where they go. One call at a time from the
background thread, over the Open Inference Protocol, with a timeout; whatever goes wrong costs the comparison and
nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError

MAP = "explain"
_DATATYPES: dict[str, str] = {"FP32": "<f4", "FP64": "<f8", "INT64": "<i8", "INT32": "<i4", "FP16": "<f2"}
_NAMES = {np.dtype(code): name for name, code in _DATATYPES.items()}


class Reference(ABC):
    """Explains with one model of another service.

    Parameters
    ----------
    options : RemoteOptions
    model, version : str
        As the other service calls them.
    output : str
        The model's output that holds the logits.
    """

    def __init__(self, options: RemoteOptions, model: str, version: str, output: str) -> None:
        self._options, self._model, self._version, self._output = options, model, version, output

    def explain(
        self, inputs: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return maps (N, ...) and logits (N, C) of the reference for these classes, -1 for its own.

        Raises
        ------
        RemoteReferenceError
            No answer in time, an error, or another form of answer. The next call connects anew.
        """
        try:
            found = self._ask({**inputs, "target": target})
            return found[MAP], found[self._output]
        except RemoteReferenceError:
            self.close()
            raise
        except (OSError, ValueError, LookupError, TypeError) as error:
            self.close()
            raise RemoteReferenceError(f"{self._options.url}: {type(error).__name__}: {error}") from error

    @abstractmethod
    def _ask(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Send these tensors, and return those of the answer by name."""

    @abstractmethod
    def close(self) -> None:
        """Hang up."""

    def _token(self) -> str | None:
        """Read the token anew, so that a changed one is taken up."""
        file = self._options.token_file
        return None if file is None else file.read_text("utf-8").strip()


def tensor_name(values: NDArray[Any]) -> str:
    """Return the protocol's name of an array's type."""
    return _NAMES[values.dtype]


def tensor_values(datatype: str, shape: list[int], raw: bytes) -> NDArray[Any]:
    """Return the array that raw bytes hold."""
    values: NDArray[Any] = np.frombuffer(raw, _DATATYPES[datatype]).reshape(shape)
    return values
