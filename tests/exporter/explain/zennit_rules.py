"""zennit where it is installed. It names classes of torchvision when it is imported and uses none of them here."""

import sys
import types
from functools import cache
from importlib.util import find_spec

import pytest
import torch

zennit = pytest.mark.skipif(find_spec("zennit") is None, reason="zennit 0.5.1 is not installed")


_NAMED = {
    "torchvision": (),
    "torchvision.models": (),
    "torchvision.models.resnet": ("Bottleneck", "BasicBlock"),
}


@cache
def load():
    stand_ins = []
    if find_spec("torchvision") is None:
        for name, classes in _NAMED.items():
            module = types.ModuleType(name)
            module.__dict__.update({member: type(member, (), {}) for member in classes})
            sys.modules[name] = module
            stand_ins.append(name)
    import zennit as package
    import zennit.composites
    import zennit.rules
    import zennit.types

    for name in stand_ins:  # torch asks whether torchvision is there
        del sys.modules[name]
    return package


def attributed(module, x, start, composite):
    """What arrives at the input when ``start`` is handed back from the logits under a composite."""
    given = torch.tensor(x, requires_grad=True)
    with composite(load()).context(module) as hooked:
        logits = hooked(given)
        (found,) = torch.autograd.grad(logits, given, torch.as_tensor(start, dtype=logits.dtype))
    return found.detach().numpy()
