"""The places of an input: the positions that perturbing explainers rank, all channels together."""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.errors import NotApplicableError


def space_of(emit: Emit, x: str) -> tuple[int, ...]:
    """Return the lengths of the axes over which places lie: all behind the channels, or the one of a flat input.

    Raises
    ------
    NotApplicableError
        One of them is free, or the input is a batch of single numbers.
    """
    shape = emit.shape(x)
    space = tuple(dim for dim in shape[2 if len(shape) > 2 else 1 :] if isinstance(dim, int))
    if not space or len(space) != len(shape) - (2 if len(shape) > 2 else 1):
        raise NotApplicableError(
            f"Input {x!r} has shape {shape}, expected (N, channels, lengths...) or (N, D) with every length a number."
        )
    return space


def map_of_places(emit: Emit, values: str, x: str) -> str:
    """Lay [N, P] out as a map: [N, 1, *space], or [N, D] of a flat input."""
    shape = emit.shape(x)
    single = () if len(shape) == 2 else (1,)
    return emit.reshape(values, (shape[0], *single, *space_of(emit, x)))
