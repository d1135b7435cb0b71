"""Constraints that compression puts on parameters, as torch parametrizations.

A constraint lives on the tensor it binds: the mask or the codebook *is* the parametrization, so gradients reach
the free values by themselves and the writer asks a parameter for its code instead of guessing it from floats.
Constraints stack in the order in which they were put: a mask first, then a codebook over the survivors.

A constraint may put several smaller parameters in the place of one (two factors, a codebook of kernels). Those are
then the parameters of the model, named after the one they replace (``fc1.weight.left``), and are pruned, shared and
rounded like any other.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clearweight.artifact import CodedTensor, TiledTensor
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.recurrent import look_up_weights


class Constraint(nn.Module):
    """A parametrization that a checkpoint can rebuild: its constructor takes the tensors it holds, by name.

    Attributes
    ----------
    kind : what a checkpoint calls it
    replaces : nothing of the tensor underneath reaches the value
    factors : names of the parameters that take the constrained one's place; empty where it stays itself
    """

    kind: ClassVar[str]
    replaces: ClassVar[bool] = False
    factors: ClassVar[tuple[str, ...]] = ()


class TileConstraint(Constraint):
    """A constraint whose factors are tiles or what tiles are made of; the writer stores them in the weight's place."""

    def tiled(
        self, name: str, values: NDArray[np.float32], factors: Mapping[str, CodedTensor]
    ) -> TiledTensor:
        """Return the constrained parameter for the writer.

        Parameters
        ----------
        values : of the whole parameter
        factors : each factor with the code that further constraints give it
        """
        raise NotImplementedError


class PruneMask(Constraint):
    """Keep a fixed set of entries and hold the others at zero.

    Selected, not multiplied: ``w * 0`` of a negative weight is -0, which the packed format would have to keep.
    """

    kind: ClassVar = "mask"
    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        """Return ``weight`` with the dropped entries at zero; same shape."""
        return torch.where(self.mask, weight, 0.0)


class SharedCodebook(Constraint):
    """Every entry is one of few shared values: ``codebook[indices]``.

    Entry 0 of the table stands for exact zero and does not train; ``centroids`` are the rest. The gradient of a
    centroid is the sum over its members (Han et al., ICLR 2016, section 3.3), which indexing gives by itself.
    """

    kind: ClassVar = "codebook"
    replaces: ClassVar = True
    indices: Tensor
    zero: Tensor

    def __init__(self, centroids: Tensor, indices: Tensor) -> None:
        super().__init__()
        self.centroids = nn.Parameter(centroids)
        self.register_buffer("indices", indices.long())
        self.register_buffer("zero", torch.zeros(1, dtype=centroids.dtype), persistent=False)

    @property
    def codebook(self) -> Tensor:
        """The whole table, zero first; shape (k + 1,)."""
        return torch.cat([self.zero, self.centroids])

    def forward(self, weight: Tensor) -> Tensor:
        """Look every entry up; the tensor underneath only gives the shape."""
        return self.codebook[self.indices].view_as(weight)


def parameter_names(model: nn.Module) -> list[str]:
    """Names of all parameters as the user's module calls them, constraints looked through, in module order.

    Where a constraint puts factors in the place of a parameter, their names stand in the place of its name.
    """
    names: list[str] = []
    for prefix, module in model.named_modules():
        if "parametrizations" in prefix.split("."):
            continue
        own = [name for name, _ in module.named_parameters(recurse=False)]
        if parametrize.is_parametrized(module):
            own = [*module.parametrizations, *own]
        for name in own:
            names += _standing(model, f"{prefix}.{name}" if prefix else name)
    return names


def _standing(model: nn.Module, name: str) -> list[str]:
    """Return the parameter's own name, or those of the factors in its place."""
    constraint = factored(model, name)
    return [name] if constraint is None else [f"{name}.{factor}" for factor in constraint.factors]


def factored(model: nn.Module, name: str) -> Constraint | None:
    """Return the constraint that puts factors in the place of parameter ``name``, or None."""
    return next((c for c in constraints_of(model, name) if c.factors), None)


def whole_names(model: nn.Module) -> list[str]:
    """Names of all parameters, in module order; factors go under the name of the parameter they replace."""
    return list(dict.fromkeys(replaced(model, name) for name in parameter_names(model)))


def replaced(model: nn.Module, name: str) -> str:
    """Return the parameter that a factor stands for, or the parameter's own name."""
    prefix = name.rpartition(".")[0]
    return name if prefix in dict(model.named_modules()) else prefix


def _owner(model: nn.Module, prefix: str) -> nn.Module | None:
    """Return the module at ``prefix``, or the constraint that replaces the parameter of that name."""
    try:
        return model.get_submodule(prefix)
    except AttributeError:
        return factored(model, prefix) if "." in prefix else None


def locate(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that owns parameter ``name`` and the attribute's name there.

    Raises
    ------
    ConstraintError
        The model has no parameter of that name.
    """
    prefix, _, attribute = name.rpartition(".")
    owner = _owner(model, prefix)
    value = getattr(owner, attribute, None)
    if owner is None or not isinstance(value, Tensor):
        known = ", ".join(parameter_names(model))
        raise ConstraintError(f"The model has no parameter {name!r}. Its parameters: {known}.")
    return owner, attribute


def value_of(model: nn.Module, name: str) -> Tensor:
    """Return parameter ``name`` as the forward pass sees it, all constraints applied."""
    owner, attribute = locate(model, name)
    value: Tensor = getattr(owner, attribute)
    return value


def _chain(model: nn.Module, name: str) -> parametrize.ParametrizationList | None:
    """Return the stack of constraints on parameter ``name``, or None."""
    owner, attribute = locate(model, name)
    if not parametrize.is_parametrized(owner, attribute):
        return None
    stacks = owner.parametrizations
    if not isinstance(stacks, nn.ModuleDict):
        raise ConstraintError(f"Module {type(owner).__name__} keeps something else under 'parametrizations'.")
    stack = stacks[attribute]
    if not isinstance(stack, parametrize.ParametrizationList):
        raise ConstraintError(f"The constraints of {name!r} are not a stack of parametrizations.")
    return stack


def free_value(model: nn.Module, name: str) -> Tensor:
    """Return the trainable tensor underneath the constraints of parameter ``name``."""
    stack = _chain(model, name)
    value = value_of(model, name) if stack is None else stack.original
    if not isinstance(value, Tensor):
        raise ConstraintError(
            f"The tensor underneath {name!r} is {type(value).__name__}, expected one tensor."
        )
    return value


def constraints_of(model: nn.Module, name: str) -> Iterator[Constraint]:
    """Yield the constraints on parameter ``name``, the innermost first; a user's own parametrizations are none."""
    yield from (c for c in _chain(model, name) or () if isinstance(c, Constraint))


def put(model: nn.Module, name: str, constraint: Constraint) -> None:
    """Put a constraint on parameter ``name``, on top of those it has."""
    owner, attribute = locate(model, name)
    look_up_weights(owner)  # a recurrent layer would run on the tensor underneath
    parametrize.register_parametrization(owner, attribute, constraint)
    if constraint.replaces:
        # Nothing of the tensor underneath reaches the output any more: without this, DDP waits for its gradient.
        free_value(model, name).requires_grad_(False)


def held_tensors(model: nn.Module, name: str, constraint: Constraint) -> dict[str, Tensor]:
    """Return what rebuilds a constraint on parameter ``name``: the arguments of its constructor."""
    own = {n for n in constraint.state_dict() if "." not in n} | set(constraint.factors)
    return {
        n: free_value(model, f"{name}.{n}") if n in constraint.factors else getattr(constraint, n)
        for n in sorted(own)
    }


def mask_of(model: nn.Module, name: str) -> Tensor | None:
    """Return the pruning mask of parameter ``name`` (bool, the parameter's shape), or None."""
    return next((c.mask for c in constraints_of(model, name) if isinstance(c, PruneMask)), None)


def put_mask(model: nn.Module, name: str, mask: Tensor) -> None:
    """Put ``mask`` on parameter ``name``, or replace the mask it has.

    Raises
    ------
    ConstraintError
        The mask's shape is not the parameter's, or the parameter already has a codebook.
    """
    owner, attribute = locate(model, name)
    shape = tuple(getattr(owner, attribute).shape)
    if tuple(mask.shape) != shape:
        raise ConstraintError(f"The mask of {name!r} has shape {tuple(mask.shape)}, expected {shape}.")
    for constraint in constraints_of(model, name):
        if isinstance(constraint, SharedCodebook):
            raise ConstraintError(f"Parameter {name!r} already has a codebook: prune before sharing weights.")
        if isinstance(constraint, PruneMask):
            constraint.mask.copy_(mask)
            return
    put(model, name, PruneMask(mask.clone()))


def put_codebook(model: nn.Module, name: str, centroids: Tensor, indices: Tensor) -> None:
    """Put a codebook on parameter ``name``; the tensor underneath is frozen.

    Parameters
    ----------
    centroids : float32, shape (k,), k <= 255
    indices : integer, the parameter's shape; 0 is exact zero, i stands for ``centroids[i - 1]``

    Raises
    ------
    ConstraintError
        More than 255 centroids, wrong shape, index out of range, or a second codebook on one parameter.
    """
    owner, attribute = locate(model, name)
    shape = tuple(getattr(owner, attribute).shape)
    if not 0 < len(centroids) < 256:
        raise ConstraintError(f"The codebook of {name!r} has {len(centroids)} centroids, expected 1 to 255.")
    if tuple(indices.shape) != shape:
        raise ConstraintError(f"The indices of {name!r} have shape {tuple(indices.shape)}, expected {shape}.")
    if indices.numel() and not (int(indices.min()) >= 0 and int(indices.max()) <= len(centroids)):
        raise ConstraintError(
            f"The indices of {name!r} run to {int(indices.max())}, expected 0 to {len(centroids)}."
        )
    if any(isinstance(c, SharedCodebook) for c in constraints_of(model, name)):
        raise ConstraintError(f"Parameter {name!r} already has a codebook.")
    put(model, name, SharedCodebook(centroids, indices))


def coded_tensor(model: nn.Module, name: str) -> CodedTensor:
    """Return parameter ``name`` with the code its constraints give it."""
    values = value_of(model, name).detach().cpu().numpy()
    for constraint in constraints_of(model, name):
        if isinstance(constraint, SharedCodebook):
            return CodedTensor(
                name=name,
                values=values,
                codebook=constraint.codebook.detach().cpu().numpy().astype(np.float32),
                indices=constraint.indices.cpu().numpy().astype(np.uint8).reshape(values.shape),
            )
    return CodedTensor(name=name, values=values)


def coded_tensors(model: nn.Module) -> list[CodedTensor]:
    """Return every parameter of ``model`` with its code, in module order."""
    return [coded_tensor(model, name) for name in parameter_names(model)]
