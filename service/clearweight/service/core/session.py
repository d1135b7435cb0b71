"""ONNX Runtime sessions over graphs whose every parameter lives outside them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.service.core.weights import Weights

ort.disable_telemetry_events()

_BATCH = "N"  # as the exporter names the batch axis of every graph


class Halt:
    """A way to end a run from another thread: between two operators, with an error for whoever waits for the run."""

    def __init__(self) -> None:
        self.options = ort.RunOptions()
        self.called = False

    def __call__(self) -> None:
        """End the run, or the one that is about to begin."""
        self.called = True
        self.options.terminate = True


class Session:
    """One graph ready to run.

    Parameters
    ----------
    graph : bytes
        The ONNX file; its initializers are external and named like the tensors of ``weights``.
    weights : Weights
        Of all sessions of the model.
    threads : int
        Threads per run.
    batch : int
        Rows that the session is planned for, 0 for any number. With the number known, a runtime keeps masks and sums
        of the backward pass in the blocked layout of convolutions; other requests are run in pieces of this size.
    prepacked : bool
        Whether the runtime may lay weights out anew for its kernels. It is slower where a large one is read both forth
        and back: two layouts of it take turns in the cache.
    """

    def __init__(
        self, graph: bytes, weights: Weights, threads: int, batch: int = 0, *, prepacked: bool = True
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not prepacked:
            options.add_session_config_entry("session.disable_prepacking", "1")
        if batch:
            options.add_free_dimension_override_by_name(_BATCH, batch)
        self._batch = batch
        self._weights = weights  # shared ones must outlive the session
        self._session = weights.open(graph, options)
        self.inputs = tuple(node.name for node in self._session.get_inputs())
        self.outputs = tuple(node.name for node in self._session.get_outputs())
        # What is shared by the rows (path points, noise, masks) has another, open first axis.
        self._by_row = frozenset(
            n.name for n in self._session.get_inputs() if n.shape and n.shape[0] == batch
        )

    def run(
        self,
        feed: Mapping[str, NDArray[Any]],
        outputs: Sequence[str] | None = None,
        halt: Halt | None = None,
    ) -> list[NDArray[Any]]:
        """Run once; ``outputs`` None returns all in the graph's order. Safe from several threads."""
        options = None if halt is None else halt.options
        rows = next((len(feed[name]) for name in self._by_row), 0) if self._batch else 0
        if rows == self._batch:
            result: list[NDArray[Any]] = self._session.run(outputs, feed, options)
            return result
        pieces = [
            self._session.run(outputs, self._piece(feed, start, rows), options)
            for start in range(0, rows, self._batch)
        ]
        return [np.concatenate(parts)[:rows] for parts in zip(*pieces, strict=True)]

    def _piece(self, feed: Mapping[str, NDArray[Any]], start: int, rows: int) -> dict[str, NDArray[Any]]:
        """Cut as many rows as the session is planned for; behind the end the last row is repeated."""
        places = np.minimum(np.arange(start, start + self._batch), rows - 1)
        return {name: values[places] if name in self._by_row else values for name, values in feed.items()}
