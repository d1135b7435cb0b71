"""What an explainer makes: one ONNX graph that returns the map and the model's own outputs in one run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import onnx

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier

Resolution = Literal["input", "feature"]


@dataclass(frozen=True, eq=False)
class ExplainGraph:
    """An explain graph and what its map means.

    Attributes
    ----------
    model : inputs: the model's own and ``target`` INT64 [N], -1 for the arg-max of this run. Outputs:
        ``explain``, the model's own outputs, and ``completeness_error`` FP32 [N] where there is one.
        A target outside -1..C-1 gives a map of NaN in its row; a server checks the range before it asks.
    method : key of ``EXPLAINERS``
    resolution : "input": the map has the input's shape; "feature": that of one feature map, one channel
    layer : the feature map, None for input-level methods
    map_shape : shape of the map, -1 for the batch
    units : what one unit of the map is
    baseline : what the map compares the input with
    completeness : whether there is a ``completeness_error``
    """

    model: onnx.ModelProto
    method: str
    resolution: Resolution
    layer: str | None
    map_shape: tuple[int, ...]
    units: str
    baseline: str
    completeness: bool


@dataclass(frozen=True)
class Attribution:
    """What one explainer added to a graph: its map, and the completeness error where it has one."""

    explain: str
    layer: str | None = None
    completeness_error: str | None = None


@dataclass(frozen=True)
class Explainer:
    """One way of explaining: how its graph is built and what its map means.

    Attributes
    ----------
    attribute : adds the map to a classifier's graph; the second argument is the layer asked for, or None
    """

    method: str
    resolution: Resolution
    units: str
    baseline: str
    attribute: Callable[[Emit, Classifier, str | None], Attribution]
