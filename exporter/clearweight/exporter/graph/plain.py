"""A module as it will be shipped: its constraints applied, ready to be read and run."""

import copy

from torch import nn
from torch.nn.utils import parametrize


def without_parametrizations(module: nn.Module) -> nn.Module:
    """Copy a module with each parametrized tensor replaced by its present value.

    Masks and codebooks are parametrizations while they are trained: as long as they stand, every forward
    pass computes them again and the tensor is not under its own name. The copy is on the CPU, in
    evaluation mode and asks for no gradients of its parameters; the argument stays as it is.

    torch's own ``remove_parametrizations`` deletes a property of the module's class, which a copy shares with
    its original: removing from the copy would break the original. So the copy gets its plain class back.
    """
    plain = copy.deepcopy(module).cpu().eval()
    for child in list(plain.modules()):
        if parametrize.is_parametrized(child):
            held = child.parametrizations
            assert isinstance(held, nn.ModuleDict)  # noqa: S101 - what is_parametrized says
            values = {name: getattr(child, name).detach().clone() for name in held}
            child.__class__ = parametrize.type_before_parametrizations(child)
            del child.parametrizations
            for name, value in values.items():
                child.register_parameter(name, nn.Parameter(value))
    return plain.requires_grad_(False)
