"""Evaluate one network on a batch: logits, and the gradients and features that the terms asked for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from clearweight.exporter.errors import RecipeError
from clearweight.exporter.objective.convolution import twice_differentiable_convolutions
from clearweight.exporter.objective.term import Needs, View


@contextmanager
def _recorded(model: nn.Module, names: frozenset[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules, which exist, during the forward passes inside the block."""
    outputs: dict[str, Tensor] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            if not isinstance(output, Tensor):
                raise RecipeError(
                    f"Module {name!r} returns {type(output).__name__}, expected one tensor to match at."
                )
            outputs[name] = output

        return record

    handles = [model.get_submodule(n).register_forward_hook(recorder(n)) for n in sorted(names)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def view(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    inputs: Tensor,
    needs: Needs,
    *,
    target: Tensor | None = None,
    keep_graph: bool,
) -> View:
    """Evaluate ``model`` on ``inputs`` as far as ``needs`` says.

    Parameters
    ----------
    model : the network whose modules are looked up by name
    forward : how it is called (the same network, possibly wrapped for several processes)
    inputs : (n, *shape)
    target : (n,) int64, the explained class; None takes this network's own top class
    keep_graph : keep the graph of the gradients, so that a loss of them can be differentiated again
    """
    if needs.input_gradient or needs.feature_gradients:
        # A frozen reference has no parameter that asks for gradients: without this its features have none.
        inputs = inputs.detach().requires_grad_()
    twice = keep_graph and (needs.input_gradient or needs.feature_gradients)
    convolutions = twice_differentiable_convolutions() if twice else nullcontext()
    with _recorded(model, needs.features) as features, convolutions:
        logits = forward(inputs).to(inputs.dtype)
    sources = [inputs] if needs.input_gradient else []
    names = sorted(needs.features) if needs.feature_gradients else []
    sources += [features[name] for name in names]
    gradients: list[Tensor] = []
    if sources:
        chosen = logits.detach().argmax(1) if target is None else target
        score = logits.gather(1, chosen[:, None]).sum()
        gradients = list(torch.autograd.grad(score, sources, create_graph=keep_graph, retain_graph=True))
    result = View(
        logits=logits,
        input_map=inputs * gradients.pop(0) if needs.input_gradient else None,
        features=dict(features),
        feature_gradients=dict(zip(names, gradients, strict=True)),
    )
    return result if keep_graph else _detached(result)


def _detached(full: View) -> View:
    return View(
        logits=full.logits.detach(),
        input_map=None if full.input_map is None else full.input_map.detach(),
        features={name: value.detach() for name, value in full.features.items()},
        feature_gradients={name: value.detach() for name, value in full.feature_gradients.items()},
    )
