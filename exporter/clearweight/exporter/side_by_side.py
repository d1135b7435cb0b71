"""Both networks on the same inputs, for the class that the reference predicts."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.calibration import (
    NUDGE,
    Explained,
    explained,
    session_without_optimisation,
)
from clearweight.exporter.emission import Emitted
from clearweight.exporter.graph import session
from clearweight.exporter.quality import predicted
from clearweight.exporter.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Compared:
    """Both networks on the same inputs, for the class that the reference predicts.

    Attributes
    ----------
    reference, own : what their explain graphs answered; the logits of a quantized network are its predict graph's,
        whose integer kernels may round another way
    plain : the compressed network again, with the runtime's graph optimisation off
    rounded : a quantized network by further ways that an intact device may take
    """

    reference: Explained
    own: Explained
    plain: Explained
    rounded: tuple[Explained, ...] = ()


def run_both(recipe: Recipe, reference: Emitted, own: Emitted, inputs: NDArray[np.float32]) -> Compared:
    """Run the default explainer of both networks over ``inputs``."""
    method, threads = recipe.default_explainer, recipe.threads
    whole, graph = reference.graphs[method], own.graphs[method]
    aim = explained(session(whole.model, threads=threads, prepacked=whole.prepacked), inputs, None, whole)
    target = aim.logits.argmax(1).astype(np.int64)
    running = session(graph.model, threads=threads, prepacked=graph.prepacked)
    found = explained(running, inputs, target, graph)
    plain = explained(session_without_optimisation(graph.model, threads), inputs, target, graph)
    if not own.quantized:
        return Compared(aim, found, plain)
    nudged = explained(running, inputs * NUDGE, target, graph)
    return Compared(aim, replace(found, logits=predicted(own, inputs, threads)), plain, (found, nudged))
