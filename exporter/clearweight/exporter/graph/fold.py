"""BatchNorm merged into its convolution before compression starts.

Pruning and weight sharing must see the weights that will be stored, so the merge happens in the torch
module. The module keeps its class, its forward method and the names of its parameters; a merged BatchNorm
becomes an Identity and its convolution gains a bias.
"""

import copy
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import fx, nn

from clearweight.exporter.graph.errors import FoldingError

_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LINEAR_MAPS = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)

# One observed call: (name of the producing linear map, name of the BatchNorm, sole consumer).
_Call = tuple[str | None, str | None, bool]


def fold_batchnorm(module: nn.Module, example: torch.Tensor | None = None) -> nn.Module:
    """Merge every BatchNorm that directly follows a convolution or linear layer.

    The argument is left untouched. In evaluation mode the result computes the same function to float32
    rounding (the merge itself is done in float64). A BatchNorm without such a producer stays in place. A
    pair is merged only if every call of the one feeds the other and nothing else.

    Parameters
    ----------
    module : a classifier
    example : float, shape (N, ...), optional
        Needed only for modules that ``torch.fx`` cannot trace symbolically: they are captured by
        ``torch.export`` on this input instead.

    Returns
    -------
    a copy of ``module`` in evaluation mode, of the same class

    Raises
    ------
    FoldingError
        The module contains BatchNorm, cannot be traced and no example is given; or a BatchNorm keeps no
        running statistics.

    References
    ----------
    Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, CVPR 2018, section 3.2.
    """
    folded = copy.deepcopy(module).eval()
    normalisations = {name for name, child in folded.named_modules() if isinstance(child, _NORMALISATIONS)}
    if not normalisations:
        return folded
    for producer_name, norm_name in _pairs(_calls(folded, example)):
        _merge(folded, producer_name, norm_name)
    return folded


def _calls(module: nn.Module, example: torch.Tensor | None) -> list[_Call]:
    """List who feeds whom, by symbolic tracing or else by capture on the example."""
    try:
        graph = fx.Tracer().trace(module)
    except Exception as symbolic:
        if example is None:
            raise FoldingError(
                f"{type(module).__name__} contains BatchNorm but torch.fx cannot trace it ({symbolic}): "
                "expected a traceable module, or an example input to capture it with."
            ) from symbolic
        return _captured_calls(module, example)
    modules = dict(module.named_modules())
    return _edges(
        graph.nodes,
        {node: str(node.target) for node in graph.nodes if node.op == "call_module"},
        modules,
    )


def _captured_calls(module: nn.Module, example: torch.Tensor) -> list[_Call]:
    try:
        program = torch.export.export(module, (example,), strict=False)
    except Exception as error:
        raise FoldingError(
            f"{type(module).__name__} contains BatchNorm and neither torch.fx nor torch.export can trace "
            f"it: {str(error).splitlines()[0]}"
        ) from error
    owners = {}
    for node in program.graph.nodes:
        if node.op == "call_function" and (stack := node.meta.get("nn_module_stack")):
            owners[node] = next(reversed(stack.values()))[0].removeprefix("L['self'].")
    return _edges(program.graph.nodes, owners, dict(module.named_modules()))


def _edges(
    nodes: Iterable[fx.Node], owners: dict[fx.Node, str], modules: dict[str, nn.Module]
) -> list[_Call]:
    """Record one call for each use of a linear map and of a BatchNorm."""
    calls: list[_Call] = []
    for node in nodes:
        child = modules.get(owners.get(node, ""))
        if isinstance(child, _NORMALISATIONS):
            source = node.all_input_nodes[0]
            if isinstance(modules.get(owners.get(source, "")), _LINEAR_MAPS):
                calls.append((owners[source], owners[node], len(source.users) == 1))
            else:
                calls.append((None, owners[node], False))
        elif isinstance(child, _LINEAR_MAPS) and not any(
            isinstance(modules.get(owners.get(user, "")), _NORMALISATIONS) for user in node.users
        ):
            calls.append((owners[node], None, False))
    return calls


def _pairs(calls: list[_Call]) -> list[tuple[str, str]]:
    """Keep the pairs that meet in every call and are alone with each other."""
    consumers: dict[str, set[str | None]] = defaultdict(set)
    producers: dict[str, set[str | None]] = defaultdict(set)
    shared = set()
    for producer, norm, sole in calls:
        if producer is not None:
            consumers[producer].add(norm)
            if not sole:
                shared.add(producer)
        if norm is not None:
            producers[norm].add(producer)
    return [
        (producer, norm)
        for producer, norms in consumers.items()
        for norm in norms
        if norm is not None and norms == {norm} and producers[norm] == {producer} and producer not in shared
    ]


def _merge(module: nn.Module, producer_name: str, norm_name: str) -> None:
    """Y = gamma (w x + b - mean) / sqrt(var + eps) + beta, written as one linear map."""
    producer = module.get_submodule(producer_name)
    norm = module.get_submodule(norm_name)
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d)  # noqa: S101 - invariant of _pairs
    if norm.running_mean is None or norm.running_var is None:
        raise FoldingError(
            f"BatchNorm {norm_name!r} keeps no running statistics: it depends on the batch it sees and cannot "
            "be merged. Expected track_running_stats=True."
        )
    weight = producer.weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101 - every linear map has a weight
    bias = producer.bias
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.affine:
        scale = scale * norm.weight.detach().double()
    offset = -norm.running_mean.double()
    if isinstance(bias, torch.Tensor):
        offset = offset + bias.detach().double()
    shift = offset * scale
    if norm.affine:
        shift = shift + norm.bias.detach().double()
    with torch.no_grad():
        producer.weight = nn.Parameter(
            (weight.detach().double() * _per_output(scale, producer)).to(weight.dtype),
            requires_grad=weight.requires_grad,
        )
        producer.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=weight.requires_grad)
    parent_name, _, child_name = norm_name.rpartition(".")
    setattr(module.get_submodule(parent_name), child_name, nn.Identity())


def _per_output(scale: torch.Tensor, producer: nn.Module) -> torch.Tensor:
    """Shape the scale of each output channel so that it multiplies the producer's weight."""
    weight = producer.weight
    assert isinstance(weight, torch.Tensor)  # noqa: S101 - every linear map has a weight
    spatial = (1,) * (weight.dim() - 2)
    if not isinstance(producer, _TRANSPOSED):
        return scale.reshape(-1, 1, *spatial)
    # A transposed convolution stores (in, out / groups, ...): group g holds inputs g and outputs g.
    groups = int(producer.groups)
    per_group = scale.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
    return per_group.reshape(weight.shape[0], -1, *spatial)
