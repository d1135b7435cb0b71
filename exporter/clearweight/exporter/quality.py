"""How good a network is: its accuracy as shipped, its maps' faithfulness to itself, and the retrain floor."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clearweight.artifact import Quality
from clearweight.exporter.calibration import Explained, distances, explained
from clearweight.exporter.emission import Emitted, explainer
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.evaluate import (
    Checked,
    Comparison,
    Maps,
    compare_maps,
    maps_of,
    mean,
    reference_maps,
    self_check,
)
from clearweight.exporter.graph import session, to_onnx
from clearweight.exporter.preparation import Prepared, train_reference

# Occlusion and deletion cost hundreds of runs an image.
EXPLAINED_SAMPLES = 100
# Any seed but the reference's own.
OTHER_SEED = 7919


def accuracy(emitted: Emitted, inputs: NDArray[np.float32], labels: NDArray[np.int64], threads: int) -> float:
    """Return the share of right answers of the graph that ships."""
    return float((predicted(emitted, inputs, threads).argmax(1) == labels).mean())


def predicted(emitted: Emitted, inputs: NDArray[np.float32], threads: int) -> NDArray[np.float32]:
    """Return the logits of the graph that ships, (n, classes)."""
    running = session(emitted.predict, threads=threads)
    name = running.get_inputs()[0].name
    parts = [running.run(None, {name: inputs[i : i + 256]})[0] for i in range(0, len(inputs), 256)]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Explanations:
    """Both networks explained in every way that is compared, on the first inputs of the test part.

    Attributes
    ----------
    reference, own : maps for the class that the reference predicts, and each network's faithfulness to itself
    reference_checks, own_checks : explainer -> how it fares against its own network, a random map beside them
    """

    reference: Maps
    own: Maps
    reference_checks: dict[str, Checked]
    own_checks: dict[str, Checked]

    @property
    def comparison(self) -> Comparison:
        """Similarities of the two networks' maps, also by explainers that no objective saw."""
        return compare_maps(self.reference, self.own)


def explanations(reference: Emitted, own: Emitted, inputs: NDArray[np.float32]) -> Explanations:
    """Explain the first inputs by both networks, with torch."""
    images = torch.from_numpy(inputs[:EXPLAINED_SAMPLES])
    aim = reference_maps(reference.plain, images)
    found = maps_of(own.plain, images, aim.targets)
    return Explanations(
        aim, found, self_check(reference.plain, images, aim), self_check(own.plain, images, found)
    )


def quality(accuracy_value: float, maps: Maps, checks: Mapping[str, Checked]) -> Quality:
    """Return how accurate a network is and how faithful its maps of input x gradient are to itself."""
    checked = checks["input_x_gradient"]
    return Quality(
        accuracy=accuracy_value,
        deletion_auc=mean(maps.deletion_auc),
        spearman_to_own_occlusion=mean(maps.spearman_to_own_occlusion),
        insertion_auc=checked.insertion_auc,
        infidelity=checked.infidelity,
        max_sensitivity=checked.max_sensitivity,
        randomization=None if checked.randomization is None else checked.randomization.remaining,
    )


def retrain_floor(prepared: Prepared, reference: Explained) -> float | None:
    """Return the mean map cosine of an equally good network from another seed: what training alone keeps.

    Parameters
    ----------
    reference : the reference on the calibration split

    Returns
    -------
    None unless the recipe asks for it

    Raises
    ------
    RecipeError
        The recipe does not train the reference, or starts it from given weights, so that no independent one exists.
    """
    recipe = prepared.recipe
    if not recipe.fidelity.retrain_floor:
        return None
    if recipe.reference is None or recipe.model.weights is not None:
        raise RecipeError(
            "fidelity.retrain_floor needs a reference that the recipe trains from scratch: give 'reference' and no "
            "'model.weights'."
        )
    fitting = prepared.samples(prepared.splits.fit)
    seed = recipe.seed + OTHER_SEED
    other = train_reference(recipe, fitting, prepared.runtime, seed, prepared.digests, prepared.checkpoints)
    graph = explainer(to_onnx(other, fitting.inputs[:2]), recipe, recipe.default_explainer)
    calibration = prepared.inputs(prepared.splits.calibration).numpy()
    target = reference.logits.argmax(1).astype(np.int64)
    maps = explained(session(graph.model, threads=recipe.threads), calibration, target, graph).maps
    return float(1.0 - np.nanmean(distances(maps, reference.maps)["cosine"]))
