"""One channel of a named layer as what is explained, in the place of a logit.

The unit's score is its largest activation over all places, as in Zeiler and Fergus (ECCV 2014, section 2.1), who
project the strongest place back: of several equal ones the first counts. A unit of a dense layer [N, K] is scored by
its activation. Every method explains this score as it would a logit.
"""

from dataclasses import dataclass

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.errors import NotApplicableError


@dataclass(frozen=True)
class Unit:
    """A channel, counted from 0, of the value that carries the layer's name in the canonical graph."""

    layer: str
    channel: int


def unit_scores(emit: Emit, unit: Unit) -> str:
    """Add the scores of all channels of the unit's layer, [N, K].

    Raises
    ------
    NotApplicableError
        There is no such layer or channel, or the layer has no channels.
    """
    known = [
        name for node in emit.graph.nodes if node.key.op_type != "Constant" for name in node.outputs if name
    ]
    if unit.layer not in known:
        raise NotApplicableError(f"No layer {unit.layer!r} in this network. Known: {', '.join(known)}.")
    shape = emit.shape(unit.layer)
    sizes = shape[1:]
    if not sizes or isinstance(shape[0], int) or not all(isinstance(size, int) for size in sizes):
        raise NotApplicableError(
            f"Layer {unit.layer!r} has shape {shape}, expected (N, channels, places...)."
        )
    channels, *space = emit.sizes(unit.layer, range(1, len(shape)), "a unit")
    if not 0 <= unit.channel < channels:
        raise NotApplicableError(
            f"Layer {unit.layer!r} has channels 0 to {channels - 1}, but {unit.channel} was asked for."
        )
    if not space:
        return unit.layer
    strongest = emit.op("MaxPool", unit.layer, kernel_shape=space)
    return emit.graph.narrow(emit.op("Reshape", strongest, emit.ints([-1, channels])), (shape[0], channels))
