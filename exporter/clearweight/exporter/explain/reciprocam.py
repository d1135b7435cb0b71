"""ReciproCAM: what the network says to one place of a feature map alone.

``explain(p) = F_c(head(A o m_p))``, with ``m_p`` 1 at place p and 0 elsewhere, or a Gaussian of 3 places a side round
it (Byun and Lee, arXiv 2209.14074, section 3; OpenVINO XAI inserts the same). No operator is differentiated; the map
keeps the feature map's resolution, [N, 1, *space]. The authors take the class probability and stretch each map to
0..1; here it is the logit itself, which does not saturate and keeps its units.
"""

from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.errors import NotApplicableError
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.feature_map import feature_maps
from clearweight.exporter.explain.network_part import behind
from clearweight.exporter.explain.perturbation import Perturbation, Perturbed, credited_scores

_CENTRE, _BESIDE = 0.5, 0.25  # along each axis, as in the authors' code: the weights add up to 1


def reciprocam(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add ReciproCAM at a feature map [N, K, space...], by default the last one.

    Raises
    ------
    NotApplicableError
        The network has no feature map through which everything passes, or the layer that was named is none.
    """
    a = _layer(emit, classifier, choice.layer)
    space = tuple(emit.sizes(a, range(2, emit.rank(a)), "ReciproCAM"))
    places = prod(space)
    masks = neighbourhoods(space, gaussian=bool(choice.settings["gaussian"]))

    def alone(inside: Emit, index: str) -> Perturbed:
        chosen = inside.op("Gather", inside.number(masks, a), index, axis=0)
        rows = inside.op("Mul", a, inside.op("Reshape", chosen, inside.ints([-1, 1, 1, *space])))
        place = inside.op("Unsqueeze", index, inside.ints([1]))
        credit = inside.op("Equal", place, inside.ints(list(range(places))))
        return Perturbed(rows, inside.as_type_of(credit, a))

    asked = Perturbation(a, alone, emit.ints([places]), places, places)
    total = credited_scores(emit, classifier, asked)
    return Attribution(emit.reshape(total, (emit.shape(classifier.x)[0], 1, *space)), layer=a, steps=places)


def neighbourhoods(space: tuple[int, ...], *, gaussian: bool) -> NDArray[np.float64]:
    """Return what is kept round each place, (P, P): the place alone, or (1, 2, 1) / 4 along each axis, cut at edges."""
    places = np.array(list(product(*map(range, space))))
    apart = np.abs(places[:, None] - places[None])
    if not gaussian:
        return np.asarray((apart == 0).all(-1), np.float64)
    return np.asarray(np.where(apart == 0, _CENTRE, np.where(apart == 1, _BESIDE, 0.0)).prod(-1), np.float64)


def _layer(emit: Emit, classifier: Classifier, named: str | None) -> str:
    features = feature_maps(emit, classifier)
    if named is not None and named not in features:
        known = ", ".join(features) or "none"
        raise NotApplicableError(f"Layer {named!r} is no feature map of this network. Known: {known}.")
    refused: NotApplicableError | None = None
    for name in reversed(features) if named is None else [named]:
        try:
            behind(emit, name, classifier.logits)
        except NotApplicableError as error:
            refused = error
        else:
            return name
    raise refused or NotApplicableError(
        "ReciproCAM needs a feature map with spatial axes before the logits; this network has none."
    )


EXPLAINER = Explainer(
    method="reciprocam",
    resolution="feature",
    sign="signed",
    units="logit",
    baseline="none",
    attribute=reciprocam,
    settings={"gaussian": 0},
)
