"""What a caller can know of each explainer before asking: one JSON text per method among a model's properties.

The protocol's properties are texts by name, over REST and over gRPC alike; so each explainer is one text.
"""

import json

from clearweight.artifact import Explainer, Manifest
from clearweight.service.core.parameters import baseline_choices, takes_steps

PREFIX = "explainer."


def explainer_properties(manifest: Manifest) -> dict[str, str]:
    """Describe every explainer, under ``explainer.METHOD``.

    Examples
    --------
    The text behind ``explainer.integrated_gradients`` reads, among more::

        {"baselines":["zero","black","input"],"inputs":["baseline","path","path_weight"],"seed":false,"steps":32,
         "steps_fixed":false}
    """
    return {
        f"{PREFIX}{method}": json.dumps(_description(entry), sort_keys=True, separators=(",", ":"))
        for method, entry in manifest.explainers.items()
    }


def _description(explainer: Explainer) -> dict[str, object]:
    return {
        "inputs": explainer.inputs,
        "steps": explainer.steps,
        "steps_fixed": not takes_steps(explainer),
        "baselines": baseline_choices(explainer),
        "seed": bool(_RANDOM & set(explainer.inputs)),
        "settings": explainer.settings,
        "sign": explainer.sign,
        "units": explainer.units,
        "resolution": explainer.resolution,
        "layer": explainer.layer,
        "map_shape": explainer.map_shape,
        "completeness": explainer.completeness,
        "gradient_ste": explainer.gradient_ste,
    }


# What a seed changes.
_RANDOM = frozenset({"noise", "masks", "shifts"})
