"""Attribution maps by torch autograd on the module itself: what the explain graphs are checked against at export.

Nothing here is shared with the graphs but the module, the inputs and the formulas. LRP has no oracle: torch does not
give it, and a second implementation of the same rules belongs into the tests. Neither have methods that take no
gradient; plain loops check those.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from clearweight.exporter.explain import ExplainGraph
from clearweight.exporter.explain.rectifier import RECTIFIERS
from clearweight.exporter.graph import fold_batchnorm
from clearweight.exporter.objective.attribution_matching import equally_weighted_map, sensitivity_weighted_map

Settings = Mapping[str, float]
Inputs = Mapping[str, Tensor]
InputMap = Callable[[nn.Module, Tensor, Tensor, Inputs, Settings], Tensor]

# How torch calls the rectifiers that its ONNX exporter writes as one operator each.
_RECTIFIERS = frozenset(
    {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "prelu", "elu", "elu_"}
    | {"celu", "celu_", "selu", "selu_", "hardswish"}
)


@dataclass(frozen=True)
class Oracle:
    """Maps by torch: ``(x, target, further inputs) -> maps``, float32 arrays.

    Attributes
    ----------
    channels : of the layer, which the graph still has; None where it has all
    """

    model: nn.Module
    method: str
    layer: str | None
    settings: Settings
    channels: NDArray[np.int64] | None = None

    def __call__(
        self, x: NDArray[np.float32], target: NDArray[np.int64], inputs: Mapping[str, NDArray[Any]]
    ) -> NDArray[np.float32]:
        """Return the map of each input for its target class."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in inputs.items()}
        given, chosen = torch.from_numpy(x), torch.from_numpy(target)
        if self.layer is None:
            made = INPUT_MAPS[self.method](self.model, given, chosen, tensors, self.settings)
        else:
            features = _features(self.model, self.layer, given, chosen)
            if self.channels is not None:
                features = features[0][:, self.channels], features[1][:, self.channels]
            made = FEATURE_MAPS[self.method](*features)[:, None]
        values: NDArray[np.float32] = made.detach().numpy()
        return values


def oracle(
    module: nn.Module,
    graph: ExplainGraph,
    model: onnx.ModelProto,
    channels: Mapping[str, NDArray[np.int64]] = MappingProxyType({}),
) -> Oracle | None:
    """Return torch's view of a graph's maps; None where torch has none.

    Parameters
    ----------
    module : what the classifier was exported from
    model : the classifier in ONNX
    channels : value -> which of the module's channels it still has, where it lost some
    """
    if graph.method not in {*INPUT_MAPS, *FEATURE_MAPS}:
        return None
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    sample = torch.zeros(2, *shape)
    folded = fold_batchnorm(module, sample)
    if graph.layer is not None and _called(graph.layer)[0] not in dict(folded.named_modules()):
        return None  # a value that no module returns, out of reach of a torch hook
    if graph.method in {"guided_backprop", "deconvnet"}:
        # An activation that torch and ONNX do not write alike would be compared with another rule.
        counter = _Rectifiers("guided_backprop")
        with torch.no_grad(), counter:
            folded(sample)
        if counter.calls != sum(node.op_type in RECTIFIERS for node in model.graph.node):
            return None
    kept = None if graph.layer is None else channels.get(graph.layer)
    return Oracle(folded, graph.method, graph.layer, graph.settings, kept)


def _gradient(model: nn.Module, x: Tensor, target: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    score = model(x).gather(1, target[:, None]).sum()
    (found,) = torch.autograd.grad(score, x)
    return found


def _linearization(
    model: nn.Module, x: Tensor, _target: Tensor, _inputs: Inputs, _settings: Settings
) -> Tensor:
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    return torch.stack([_gradient(model, x, torch.full((len(x),), c)) for c in range(classes)], dim=1)


def _integrated(model: nn.Module, x: Tensor, target: Tensor, inputs: Inputs, _settings: Settings) -> Tensor:
    low = inputs["baseline"]
    total = torch.zeros_like(x)
    for share, weight in zip(inputs["path"], inputs["path_weight"], strict=True):
        total += weight * _gradient(model, low + share * (x - low), target)
    return (x - low) * total


def _noisy(model: nn.Module, x: Tensor, target: Tensor, inputs: Inputs, settings: Settings) -> Tensor:
    """Return the gradients of all draws, (S, n, *row)."""
    flat = x.flatten(1)
    width = (flat.max(1).values - flat.min(1).values).reshape(-1, *[1] * (x.ndim - 1))
    return torch.stack(
        [_gradient(model, x + settings["sigma"] * width * noise, target) for noise in inputs["noise"]]
    )


def _rectified(method: str) -> InputMap:
    def made(model: nn.Module, x: Tensor, target: Tensor, _inputs: Inputs, _settings: Settings) -> Tensor:
        with _Rectifiers(method):
            return _gradient(model, x, target)

    return made


INPUT_MAPS: Mapping[str, InputMap] = MappingProxyType(
    {
        "gradient": lambda model, x, target, _inputs, _settings: _gradient(model, x, target),
        "input_x_gradient": lambda model, x, target, _inputs, _settings: x * _gradient(model, x, target),
        "linearization": _linearization,
        "integrated_gradients": _integrated,
        "smoothgrad": lambda *given: _noisy(*given).mean(0),
        "vargrad": lambda *given: _noisy(*given).var(0, correction=0),
        "deconvnet": _rectified("deconvnet"),
        "guided_backprop": _rectified("guided_backprop"),
    }
)


def _gradcam(a: Tensor, da: Tensor) -> Tensor:
    return sensitivity_weighted_map(a, da) / da[0, 0].numel()


def _gradcam_plus_plus(a: Tensor, da: Tensor) -> Tensor:
    """Equation 19 as it stands, in float64 because of the third powers."""
    a, da = a.double(), da.double()
    space = tuple(range(2, a.ndim))
    below = 2 * da**2 + a.sum(space, keepdim=True) * da**3
    alpha = torch.where(below == 0, 0, da**2 / torch.where(below == 0, 1, below))
    weight = (alpha * da.relu()).sum(space, keepdim=True)
    return (weight * a).sum(1).relu().float()


FEATURE_MAPS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "gradcam": _gradcam,
        "gradcam_plus_plus": _gradcam_plus_plus,
        "ewa": lambda a, _da: equally_weighted_map(a),
        "swa": sensitivity_weighted_map,
    }
)


def _features(model: nn.Module, layer: str, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return a module's output and the gradient of the target logits to it."""
    name, call = _called(layer)
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
        outputs.append(output)
        return output.clone()  # what follows may work in place

    handle = model.get_submodule(name).register_forward_hook(keep)
    try:
        score = model(x.detach().requires_grad_()).gather(1, target[:, None]).sum()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(score, outputs[call - 1])
    return outputs[call - 1].detach(), gradient


def _called(layer: str) -> tuple[str, int]:
    """Take ``pool.call2`` apart into module and call."""
    name, _, number = layer.rpartition(".call")
    return (name, int(number)) if name and number.isdigit() else (layer, 1)


class _Rectifiers(TorchFunctionMode):
    """Inside of it rectifiers pass gradients back as guided backpropagation or a deconvolutional network do."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.calls = 0
        self._method = method

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") not in _RECTIFIERS:
            return function(*args, **(kwargs or {}))
        self.calls += 1
        if self._method == "deconvnet":
            with torch.no_grad():
                output = function(args[0].clone(), *args[1:], **(kwargs or {}))
            return _PositivePart.apply(args[0], output)  # type: ignore[no-untyped-call]  # torch has no types here
        output = function(*args, **(kwargs or {}))
        if output.requires_grad:
            output.register_hook(torch.relu)
        return output


class _PositivePart(torch.autograd.Function):
    """Any value forward, relu of the gradient backward."""

    @staticmethod
    def forward(_context: Any, _x: Tensor, output: Tensor) -> Tensor:
        return output

    @staticmethod
    def backward(_context: Any, *gradients: Any) -> Any:
        return gradients[0].relu(), None
