"""What a weight does to the answer and to the attribution map: diagonal second moments over samples.

A statistic is ``E_x sum_k (du_k(x)/dw)^2`` for some scalars ``u_k`` of one sample: the curvature, by one weight, of a
loss that is zero before the weight is changed. A step declares which statistics it needs, and one walk over the samples
collects them all.

- ``fisher``: ``u_c = sqrt(f_c) log f_c`` with the class probabilities ``f``. The Hessian of the KL divergence between
  the network's answers before and after the change; no label takes part (Gao, Liu, Wang, Oh, Rate Distortion for Model
  Compression, ICML 2019, section 4).
- ``gradient``: ``u`` is the cross-entropy against the label (the same paper, supervised variant).
- ``hessian``: ``E_x h^2`` with ``h = sum_c (du_c/dw)^2`` of ``fisher``. In a piecewise linear network ``h`` is exactly
  ``d^2 L/dw^2`` of one sample, because the logits are linear in each weight by itself.
- ``attribution``: ``u_k = m_k``, the input x gradient map of the explained class, scaled to unit length. Twice it is
  the Gauss-Newton Hessian of the matching loss ``||m - m'||^2``. Summed over positions without bias by random signs,
  ``E_v (d(v . m)/dw)^2``.

Every square is of one sample's whole derivative: the positions of a convolution are summed *inside* it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.training import Samples

Statistic = Literal["fisher", "gradient", "hessian", "attribution"]
STATISTICS: tuple[Statistic, ...] = get_args(Statistic)
Importance = dict[Statistic, dict[str, Tensor]]
Weights = Mapping[str, Tensor]
Scalar = Callable[[Weights, Tensor, Tensor, Tensor], Tensor]
# Floats that the derivatives of all samples of one chunk may take together: 128 MB.
_CHUNK_FLOATS = 1 << 25
_EPSILON = 1e-12


def importance(
    model: nn.Module,
    samples: Samples,
    wanted: frozenset[Statistic],
    generator: Generator,
    *,
    targets: Tensor | None = None,
) -> Importance:
    """Collect the wanted statistics of every weight in one walk over ``samples``.

    Parameters
    ----------
    model : in evaluation mode; constraints are applied first, so a statistic belongs to the weight as it is used
    samples : of the fitting split
    generator : draws the signs of ``attribution``
    targets : (n,) explained classes; None takes the model's own top classes

    Returns
    -------
    statistic -> parameter name -> float32 of the parameter's shape, the mean over samples
    """
    plain = without_parametrizations(model).eval()
    weights = {name: p.detach() for name, p in plain.named_parameters()}
    sums = {kind: {n: torch.zeros_like(w) for n, w in weights.items()} for kind in wanted}
    chunk = max(1, min(256, _CHUNK_FLOATS // max(1, sum(w.numel() for w in weights.values()))))
    for start in range(0, len(samples), chunk):
        inputs, labels = samples.inputs[start : start + chunk], samples.labels[start : start + chunk]
        with torch.no_grad():
            logits = plain(inputs)
        explained = logits.argmax(1) if targets is None else targets[start : start + chunk]
        for kind, moments in _chunk(plain, weights, inputs, labels, explained, wanted, generator):
            for name, moment in moments.items():
                sums[kind][name] += moment
    return {kind: {n: s / len(samples) for n, s in total.items()} for kind, total in sums.items()}


def _chunk(
    model: nn.Module,
    weights: Weights,
    inputs: Tensor,
    labels: Tensor,
    targets: Tensor,
    wanted: frozenset[Statistic],
    generator: Generator,
) -> Iterator[tuple[Statistic, dict[str, Tensor]]]:
    """Yield each wanted statistic of one chunk, summed over its samples."""

    def probability_root(use: Weights, x: Tensor, c: Tensor, _: Tensor) -> Tensor:
        log_f = functional.log_softmax(functional_call(model, dict(use), (x[None],))[0], 0) @ c
        return (log_f.detach() / 2).exp() * log_f

    def task(use: Weights, x: Tensor, y: Tensor, _: Tensor) -> Tensor:
        return -functional.log_softmax(functional_call(model, dict(use), (x[None],))[0], 0) @ y

    def signed_map(use: Weights, x: Tensor, c: Tensor, signs: Tensor) -> Tensor:
        slope = grad(lambda at: functional_call(model, dict(use), (at[None],))[0] @ c)(x)
        through = x * slope
        projected: Tensor = (signs * through).sum() / (through.norm() + _EPSILON)
        return projected

    # A class is chosen by a product with its unit vector: vmap cannot index by a tensor of its own batch.
    with torch.no_grad():
        classes = model(inputs[:1]).shape[1]
    unit = torch.eye(classes).to(inputs)
    # torch has no rule to run a recurrent layer over a batch of networks.
    one_by_one = any(isinstance(module, nn.RNNBase) for module in model.modules())
    if "fisher" in wanted or "hessian" in wanted:
        fast = set() if "hessian" in wanted else linear_weights(model, inputs)
        slow = {name: w for name, w in weights.items() if name not in fast}
        per_sample: dict[str, Tensor] = {n: w.new_zeros(len(inputs), *w.shape) for n, w in slow.items()}
        for c in range(classes if slow else 0):
            for name, slope in _slopes(
                probability_root,
                slow,
                weights,
                inputs,
                unit[torch.full_like(targets, c)],
                inputs,
                one_by_one=one_by_one,
            ):
                per_sample[name] += slope.square()
        if "fisher" in wanted:
            yield "fisher", {n: h.sum(0) for n, h in per_sample.items()} | linear_fisher(model, inputs, fast)
        if "hessian" in wanted:
            yield "hessian", {n: h.square().sum(0) for n, h in per_sample.items()}
    if "gradient" in wanted:
        slopes = _slopes(task, weights, weights, inputs, unit[labels], inputs, one_by_one=one_by_one)
        yield "gradient", {name: slope.square().sum(0) for name, slope in slopes}
    if "attribution" in wanted:
        signs = torch.randint(0, 2, inputs.shape, generator=generator).to(inputs) * 2 - 1
        slopes = _slopes(signed_map, weights, weights, inputs, unit[targets], signs, one_by_one=one_by_one)
        yield "attribution", {name: slope.square().sum(0) for name, slope in slopes}


def _slopes(
    scalar: Scalar,
    of: Weights,
    weights: Weights,
    inputs: Tensor,
    chosen: Tensor,
    extra: Tensor,
    *,
    one_by_one: bool,
) -> Iterator[tuple[str, Tensor]]:
    """Yield name and derivative of every sample's ``scalar`` by each weight in ``of``; (n, *weight shape)."""
    held = {name: w for name, w in weights.items() if name not in of}

    def one(free: Weights, x: Tensor, c: Tensor, e: Tensor) -> Tensor:
        return scalar({**held, **free}, x, c, e)

    free = dict(of)
    if one_by_one:
        each = [grad(one)(free, x, c, e) for x, c, e in zip(inputs, chosen, extra, strict=True)]
        yield from ((name, torch.stack([slope[name] for slope in each])) for name in free)
    else:
        yield from vmap(grad(one), in_dims=(None, 0, 0, 0))(free, inputs, chosen, extra).items()


@contextmanager
def _calls(model: nn.Module) -> Iterator[dict[str, list[tuple[Tensor, Tensor]]]]:
    """Record (input, output) of every call of every Linear module inside the block, by module name."""
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(_module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            calls.setdefault(name, []).append((given[0].detach(), output))

        return record

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    handles = [module.register_forward_hook(recorder(name)) for name, module in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def linear_weights(model: nn.Module, inputs: Tensor) -> set[str]:
    """Return the weights that one Linear module uses once per sample: those with the fast path."""
    with _calls(model) as calls, torch.no_grad():
        model(inputs[:1])
    owners = [id(p) for module in model.modules() for p in module.parameters(recurse=False)]
    once = {name for name, found in calls.items() if len(found) == 1 and found[0][0].ndim == 2}
    return {f"{n}.weight" for n in once if owners.count(id(model.get_parameter(f"{n}.weight"))) == 1}


def linear_fisher(model: nn.Module, inputs: Tensor, names: set[str]) -> dict[str, Tensor]:
    """Fisher diagonal of Linear weights, summed over samples, without any sample's gradient stored.

    The gradient of a weight used once is an outer product ``delta a'``, so its square is ``(delta^2)' (a^2)``; exact.
    For each class c the signal ``onehot(c) - f`` is sent back and counted by ``f_c``.
    """
    if not names:
        return {}
    with _calls(model) as calls, torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        logits = model(inputs)
    modules = sorted(name.removesuffix(".weight") for name in names)
    outputs = [calls[name][0][1] for name in modules]
    log_f = functional.log_softmax(logits, 1)
    result = {name: torch.zeros_like(model.get_parameter(name)).detach() for name in names}
    for c in range(logits.shape[1]):
        deltas = torch.autograd.grad(log_f[:, c].sum(), outputs, retain_graph=True)
        share = log_f[:, c].detach().exp()[:, None]
        for name, delta in zip(modules, deltas, strict=True):
            result[f"{name}.weight"] += (share * delta.square()).T @ calls[name][0][0].square()
    return result


def chosen(samples: Samples, count: int, generator: Generator) -> Samples:
    """Draw ``count`` samples without repetition, all of them where there are fewer."""
    index = torch.randperm(len(samples), generator=generator)[: math.floor(count)]
    return Samples(samples.inputs[index], samples.labels[index])
