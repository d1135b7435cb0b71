"""What an explainer makes: one ONNX graph that returns the map and the model's own outputs in one run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import onnx

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.unit import Unit

Resolution = Literal["input", "feature"]
Sign = Literal["signed", "positive"]
Settings = Mapping[str, float]


@dataclass(frozen=True, eq=False)
class ExplainGraph:
    """An explain graph and what its map means.

    Attributes
    ----------
    model : inputs: the model's own, ``target`` INT64 [N], -1 for the arg-max of this run, and ``inputs``. Outputs:
        ``explain``, the model's own outputs, and ``completeness_error`` FP32 [N] where there is one.
        A target outside -1..C-1 gives a map of NaN in its row; a server checks the range before it asks.
    method : key of ``EXPLAINERS``
    resolution : "input": the map has the input's places (and its channels, or one for all of them, as ``map_shape``
        says); "feature": those of one feature map, one channel
    layer : the feature map, None for input-level methods
    map_shape : shape of the map, -1 for the batch
    sign : "signed", or "positive" where the method rectifies
    units : what one unit of the map is
    baseline : what the map compares the input with: "none", "zero" (after preprocessing), or "input": the graph
        takes it as ``baseline``
    inputs : what the graph takes beside the model's inputs and ``target``; ``artifact.explain_inputs`` makes them
    steps : how many rows go through the network for one input: path points, draws or masks by default, windows or
        places where their number is fixed; 1 for a single pass
    settings : the numbers that the graph was built with
    completeness : whether there is a ``completeness_error``
    gradient_ste : whether roundings on the way were passed straight through
    unit : the channel that is explained instead of a logit, None for a logit; then ``target`` is no input
    prepacked : whether a session is faster with weights laid out anew when it loads the graph
    """

    model: onnx.ModelProto
    method: str
    resolution: Resolution
    layer: str | None
    map_shape: tuple[int, ...]
    sign: Sign
    units: str
    baseline: str
    inputs: tuple[str, ...]
    steps: int
    settings: Settings
    completeness: bool
    gradient_ste: bool = False
    unit: Unit | None = None
    prepacked: bool = True


@dataclass(frozen=True)
class Attribution:
    """What one explainer added to a graph: its map, and the completeness error where it has one.

    ``steps`` and ``settings`` replace the explainer's where the network decides them, such as the number of windows.
    """

    explain: str
    layer: str | None = None
    completeness_error: str | None = None
    steps: int | None = None
    settings: Settings | None = None


@dataclass(frozen=True)
class Choice:
    """What a caller chose for one graph: the layer, or None for the method's own choice, and every setting."""

    layer: str | None
    settings: Settings


@dataclass(frozen=True)
class Explainer:
    """One way of explaining: how its graph is built and what its map means.

    Attributes
    ----------
    attribute : adds the map to a classifier's graph
    inputs : extra inputs of the graph, declared by ``attribute``
    settings : the numbers a caller may change, with their defaults
    """

    method: str
    resolution: Resolution
    sign: Sign
    units: str
    baseline: str
    attribute: Callable[[Emit, Classifier, Choice], Attribution]
    inputs: tuple[str, ...] = ()
    steps: int = 1
    settings: Settings = field(default_factory=dict)
