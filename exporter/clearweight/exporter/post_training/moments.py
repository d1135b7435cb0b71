"""What a layer's weights do to the answer, from unlabelled inputs: second moments of what goes in and comes back.

To second order a change D of a layer's matrix moves the answer by the KL divergence ``1/2 sum_r g_r D_r H D_r'``: H
is the second moment of the layer's inputs, g_r of the derivative of the log-likelihood to output r, with labels drawn
from the model's own answers, so that no label takes part (Kronecker-factored Fisher: Martens and Grosse, ICML 2015;
for convolutions Grosse and Martens, ICML 2016). H is kept in blocks along its diagonal, which bounds its memory.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import COTANGENT, open_classifier
from clearweight.exporter.graph import session
from clearweight.exporter.post_training.layers import Layer

# Columns of a block of H.
BLOCK = 1024
# Up to so many classes their expectation is taken exactly; of more, labels are drawn.
EXACT_CLASSES, DRAWS = 16, 4
# Bytes of values that one run may return.
_RUN_BYTES = 128 << 20


@dataclass(frozen=True, eq=False)
class Moments:
    """Statistics of one layer, means over samples.

    Attributes
    ----------
    blocks : float64, (width, width) each: second moments of neighbouring columns
    mean : float64, (columns,): mean of the inputs
    rows : float64, (outputs,): second moment of the derivative to each output, summed over places
    """

    blocks: tuple[NDArray[np.float64], ...]
    mean: NDArray[np.float64]
    rows: NDArray[np.float64]


def moments(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    inputs: NDArray[np.float32],
    *,
    threads: int = 1,
    on_row: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[tuple[str, Moments]]:
    """Run the model and its way back over the inputs, a few at a time.

    Parameters
    ----------
    inputs : (n, ...) as the model takes them
    on_row : called as (done, total)

    Yields
    ------
    weight name, statistics: layer by layer, as all together take about as much memory as the weights
    """
    emit, classifier = open_classifier(model, contrast=True)
    slopes = classifier.cotangents(emit, list(dict.fromkeys(layer.y for layer in layers)))
    values = dict.fromkeys([*(layer.x for layer in layers), *(slopes[layer.y] for layer in layers)])
    names = {value: f"moments.{place}" for place, value in enumerate(values)}
    row_bytes = 4 * sum(math.prod(_sizes(emit, value)) for value in names)
    (classes,) = _sizes(emit, classifier.logits)
    for value, name in names.items():
        emit.graph.export(value, name)
    running = session(emit.graph.model([COTANGENT], [classifier.logits, *names.values()]), threads=threads)
    chunk = max(1, min(32, _RUN_BYTES // row_bytes))
    sums = {layer.weight: _Sums(layer) for layer in layers}
    random = np.random.default_rng(0)
    forward = ort.RunOptions()
    forward.only_execute_path_to_fetches = True
    for start in range(0, len(inputs), chunk):
        rows = inputs[start : start + chunk]
        feed = {classifier.x: rows, COTANGENT: np.zeros((len(rows), classes), np.float32)}
        logits, *inward = running.run(
            [classifier.logits, *(names[layer.x] for layer in layers)], feed, forward
        )
        for layer, found in zip(layers, inward, strict=True):
            sums[layer.weight].add_inputs(found)
        del inward
        for cotangent in cotangents(logits, random):
            outward = [names[slopes[layer.y]] for layer in layers]
            for layer, found in zip(layers, running.run(outward, feed | {COTANGENT: cotangent}), strict=True):
                sums[layer.weight].add_slopes(found)
        on_row(start + len(rows), len(inputs))
    del running
    for layer in layers:
        yield layer.weight, sums.pop(layer.weight).moments(len(inputs))


def _sizes(emit: Emit, value: str) -> list[int]:
    """Return the sizes of one row of a value; what shape inference leaves open counts as one."""
    return [size if isinstance(size, int) else 1 for size in emit.shape(value)[1:]]


class _Sums:
    """Running sums of one layer.

    Inputs are only summed once they would take more room than their sums: a wide layer that reads few rows keeps
    the rows.
    """

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        outputs, columns = layer.matrix_shape
        starts = range(0, columns, BLOCK)
        self._spans = [slice(start, min(start + BLOCK, columns)) for start in starts]
        self._room = sum(8 * (span.stop - span.start) ** 2 for span in self._spans)
        self._blocks: list[NDArray[np.float64]] = []
        self._waiting: list[NDArray[np.float32]] = []
        self._mean = np.zeros(columns)
        self._rows = np.zeros(outputs)
        self._places = 0

    def add_inputs(self, x: NDArray[np.float32]) -> None:
        columns = self._layer.columns(x)
        self._mean += columns.sum(0, dtype=np.float64)
        self._places += len(columns)
        self._waiting.append(columns)
        if self._blocks or sum(part.nbytes for part in self._waiting) > self._room:
            self._sum_up()

    def _sum_up(self) -> None:
        if not self._blocks:
            self._blocks = [np.zeros((span.stop - span.start,) * 2) for span in self._spans]
        for columns in self._waiting:
            for span, block in zip(self._spans, self._blocks, strict=True):
                np.add(block, columns[:, span].T @ columns[:, span], out=block)
        self._waiting.clear()

    def add_slopes(self, dy: NDArray[np.float32]) -> None:
        self._rows += np.square(self._layer.rows(dy), dtype=np.float64).sum((0, 1))

    def moments(self, samples: int) -> Moments:
        self._sum_up()
        for block in self._blocks:
            np.divide(block, self._places, out=block)
        return Moments(tuple(self._blocks), self._mean / self._places, self._rows / samples)


def cotangents(logits: NDArray[np.float32], random: np.random.Generator) -> list[NDArray[np.float32]]:
    """Return derivatives of the log-likelihood to the logits whose squares add up to their expectation.

    Over few classes c exactly, ``sqrt(f_c) (e_c - f)``; else over labels drawn from the answer f.
    """
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    f = shifted / shifted.sum(1, keepdims=True)
    classes = f.shape[1]
    if classes <= EXACT_CLASSES:
        return [(np.sqrt(f[:, [c]]) * (np.eye(classes)[c] - f)).astype(np.float32) for c in range(classes)]
    drawn = [(f.cumsum(1) < random.random((len(f), 1))).sum(1).clip(max=classes - 1) for _ in range(DRAWS)]
    return [((np.eye(classes)[c] - f) / np.sqrt(DRAWS)).astype(np.float32) for c in drawn]
