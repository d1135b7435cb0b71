"""How many bits each tensor gets: the least distortion in a number of bytes, or the fewest bytes within a distortion.

Distortions add up over tensors, so the best choices for one price of a byte are made tensor by tensor: each takes the
option on the lower convex hull of its own (bytes, distortion) where the slope passes the price (Shoham and Gersho,
Efficient bit allocation for an arbitrary set of quantizers, IEEE Trans. ASSP 1988). Walking the hulls from the cheapest
options by the steepest slope visits these choices in order of size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Option:
    """One way to store one tensor."""

    bits: int
    bytes: int
    distortion: float


Choice = dict[str, Option]


def hull(options: Sequence[Option]) -> list[Option]:
    """Return the options on the lower convex hull, fewest bytes first: each step saves less per byte than the last.

    >>> [o.bits for o in hull([Option(4, 10, 9.0), Option(8, 20, 8.9), Option(16, 30, 0.0)])]
    [4, 16]
    """
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.bytes, o.distortion)):
        if kept and option.distortion >= kept[-1].distortion:
            continue
        while len(kept) > 1 and _slope(kept[-1], option) >= _slope(kept[-2], kept[-1]):
            kept.pop()
        kept.append(option)
    return kept


def _slope(cheap: Option, dear: Option) -> float:
    """Return the distortion that one more byte saves."""
    return (cheap.distortion - dear.distortion) / (dear.bytes - cheap.bytes)


def allocate(
    options: Mapping[str, Sequence[Option]],
    *,
    max_bytes: float | None = None,
    max_distortion: float | None = None,
) -> Choice:
    """Choose an option for every tensor.

    With ``max_bytes`` tensors that no longer fit are passed over, so that smaller ones may still fill the room; with
    ``max_distortion`` the walk ends as soon as the sum is small enough. Where neither limit can be kept, the choice is
    the one that comes nearest: all cheapest, or all dearest.

    Parameters
    ----------
    options : tensor -> at least one option
    max_bytes, max_distortion : of the sums; exactly one of them
    """
    hulls = {name: hull(given) for name, given in options.items()}
    chosen = {name: steps[0] for name, steps in hulls.items()}
    ahead = [
        (_slope(cheap, dear), name, dear) for name, steps in hulls.items() for cheap, dear in pairwise(steps)
    ]
    # Slopes fall along a hull, so a stable sort keeps each tensor's steps in order.
    full: set[str] = set()
    for _, name, dear in sorted(ahead, key=lambda step: -step[0]):
        if max_distortion is not None and distortion(chosen) <= max_distortion:
            break
        grown = sum(o.bytes for o in chosen.values()) - chosen[name].bytes + dear.bytes
        if name in full or (max_bytes is not None and grown > max_bytes):
            full.add(name)
            continue
        chosen[name] = dear
    return chosen


def distortion(choice: Mapping[str, Option]) -> float:
    """Return the sum over tensors."""
    return sum(option.distortion for option in choice.values())
