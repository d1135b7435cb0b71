"""Deploying in int8: the network as it is stored and run, and how near its maps come to the truth.

A gradient through a rounding is zero, so gradient maps of a quantized network are those of a surrogate that passes
roundings straight through. Two numbers say what that is worth: how near such a map is to the float network's, and how
it ranks places beside occlusion, which asks the quantized network itself and needs no gradient.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import CodedTensor, TiledTensor, Verification
from clearweight.artifact.score import channel_sum
from clearweight.exporter.calibration import explained
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.evaluate.similarity import cosine, mean, spearman
from clearweight.exporter.explain import ExplainGraph
from clearweight.exporter.graph import int8_onnx, session, split_parameters

OCCLUSION = "occlusion"
# Inputs on which maps are compared: occlusion asks the network some dozens of times for each.
COMPARED_SAMPLES = 32

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Quantized:
    """A network in fewer bits.

    Attributes
    ----------
    predict : self-contained graph that computes with what is stored
    tensors : everything it reads, in its order: the parameters under their own names, scales and zero points
    beside : names of the latter, which are no parameters of the network
    stands_for : parameter -> how many elements it had, where several lie in one now
    bits : weight -> bits it takes, where they differ
    """

    predict: onnx.ModelProto
    tensors: list[CodedTensor]
    beside: frozenset[str]
    stands_for: Mapping[str, int] = field(default_factory=dict)
    bits: Mapping[str, int] = field(default_factory=dict)


def stored(after: Mapping[str, NDArray[Any]], tensors: Sequence[CodedTensor]) -> list[CodedTensor]:
    """Return what a quantized graph reads as the writer takes it: floats keep the codes that they have.

    Parameters
    ----------
    after : name -> values, in the graph's order
    tensors : of the float32 network
    """
    codes = {tensor.name: tensor for tensor in tensors}
    return [
        codes[name] if name in codes and values.dtype == np.float32 else CodedTensor(name, values)
        for name, values in after.items()
    ]


def quantize(
    exact: onnx.ModelProto, tensors: Sequence[CodedTensor], calibration: NDArray[np.float32]
) -> Quantized:
    """Quantize a float32 network whose codes are known.

    Weights get a scale for each output. Where weights share values (a codebook), each tensor has one scale, so that
    the few shared values stay few and pack as small as before.

    Parameters
    ----------
    calibration : inputs that show the activations' ranges

    Raises
    ------
    ConstraintError
        A parameter got lost: the graph reads it in a way that the quantizer changes.
    """
    shared = any(tensor.codebook is not None or isinstance(tensor, TiledTensor) for tensor in tensors)
    predict = int8_onnx(exact, calibration, per_channel=not shared)
    _, before = split_parameters(exact)
    _, after = split_parameters(predict)
    lost = [name for name, values in before.items() if name not in after or after[name].shape != values.shape]
    if lost:
        raise ConstraintError(
            f"Parameter {lost[0]!r} has no integers of its shape in the quantized graph: deploy float32 instead."
        )
    return Quantized(predict, stored(after, tensors), frozenset(after) - frozenset(before))


def with_agreement(
    verification: Verification,
    graph: ExplainGraph,
    exact: ExplainGraph,
    occlusion: ExplainGraph,
    inputs: NDArray[np.float32],
    *,
    threads: int,
) -> Verification:
    """Add to the record of a straight-through map how near it comes to the truth, on the first 32 inputs.

    Parameters
    ----------
    graph : of the quantized network
    exact : the same method on the float network
    occlusion : of the quantized network
    """
    shown = inputs[:COMPARED_SAMPLES]
    hidden = explained(session(occlusion.model, threads=threads), shown, None, occlusion)
    target = hidden.logits.argmax(1).astype(np.int64)
    own, float_maps = (
        explained(session(made.model, threads=threads), shown, target, made).maps for made in (graph, exact)
    )
    return replace(
        verification,
        cosine_to_float_model=mean(cosine(own, float_maps)),
        spearman_to_own_occlusion=_rank_correlation(own, hidden.maps),
    )


def _rank_correlation(maps: Map, occlusion: Map) -> float | None:
    """Return the mean over images; occlusion is averaged over the places that one place of a feature map covers."""
    space, whole = maps.shape[2:], occlusion.shape[2:]
    if any(side % cells for side, cells in zip(whole, space, strict=True)):
        return None
    pooled = occlusion.astype(np.float64)
    for axis, cells in enumerate(space, start=2):
        pooled = pooled.reshape(*pooled.shape[:axis], cells, -1, *pooled.shape[axis + 1 :]).mean(axis + 1)
    return mean(spearman(channel_sum(maps), channel_sum(pooled)))
