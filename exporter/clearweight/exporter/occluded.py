"""Occlusion maps of a quantized network and its reference: the comparison in which no gradient takes part."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import Canary
from clearweight.exporter.calibration import NUDGE, explained
from clearweight.exporter.emission import Emitted
from clearweight.exporter.explain import ExplainGraph, build
from clearweight.exporter.graph import session
from clearweight.exporter.quantization import OCCLUSION
from clearweight.exporter.recipe import Recipe

# Occlusion asks a network some dozens of times for each input.
MOST = 100

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Occluded:
    """Occlusion maps (n, ...) for the class that the reference predicts.

    Attributes
    ----------
    nudged : the quantized network's maps of inputs that are nearly the same, so that some roundings fall otherwise
    """

    reference: Map
    own: Map
    nudged: Map


def occlude(
    recipe: Recipe, reference: Emitted, own: Emitted, inputs: NDArray[np.float32], logits: NDArray[np.float32]
) -> Occluded:
    """Explain the first 100 inputs by occlusion.

    Parameters
    ----------
    own : quantized, so that it has the explainer
    logits : the reference's on these inputs
    """
    shown, target = inputs[:MOST], logits[:MOST].argmax(1).astype(np.int64)
    graph = own.graphs[OCCLUSION]
    aim = reference.graphs.get(OCCLUSION) or build(reference.predict, OCCLUSION, settings=graph.settings)

    def maps(made: ExplainGraph, x: NDArray[np.float32]) -> Map:
        return explained(session(made.model, threads=recipe.threads), x, target, made).maps

    return Occluded(maps(aim, shown), maps(graph, shown), maps(graph, shown * NUDGE))


def with_occlusion(stored: Canary, covered: Occluded) -> Canary:
    """Add occlusion maps to the probes.

    Raises
    ------
    CanaryError
        There are other than one map for each probe.
    """
    full = replace(
        stored,
        occlusions_reference=covered.reference.astype(np.float16),
        occlusions_compressed=covered.own.astype(np.float16),
    )
    full.validate()
    return full
