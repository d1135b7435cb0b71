"""The probes that came with an artifact, for the page of the admin port: they may be real inputs."""

from typing import Any

import numpy as np
from starlette.routing import BaseRoute

from clearweight.artifact import Canary
from clearweight.service.core.datatypes import datatype_of
from clearweight.service.core.engine import Engine
from clearweight.service.web.of_model import of_model

CANARIES = "/web/canaries/"
_MOST_ELEMENTS = 1_000_000
"""Elements one reply may hold; a model with larger inputs shows fewer probes."""


def canary_routes(engine: Engine) -> list[BaseRoute]:
    """Return ``/web/canaries/{model}``; whoever mounts it decides who may read stored inputs."""
    return [
        of_model(CANARIES, engine, lambda _, model: probes(model.canaries, model.manifest.canaries.source))
    ]


def probes(canary: Canary, source: str) -> dict[str, Any]:
    """Return raw inputs, row by row and flat, ready for JSON.

    Parameters
    ----------
    source : where they came from, ``calibration``, ``file`` or ``synthetic``
    """
    one = max(1, int(np.prod(canary.inputs.shape[1:])))
    rows = canary.inputs[: max(1, _MOST_ELEMENTS // one)]
    return {
        "source": source,
        "datatype": datatype_of(canary.inputs),
        "inputs": [row.reshape(-1).tolist() for row in rows],
    }
