"""The probes that came with an artifact, for the page of the admin port: they may be real inputs."""

from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clearweight.artifact import Canary
from clearweight.service.core.datatypes import datatype_of
from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import NotFoundError

CANARIES = "/web/canaries/"
_MOST_ELEMENTS = 1_000_000
"""Elements one reply may hold; a model with larger inputs shows fewer probes."""


def canary_routes(engine: Engine) -> list[BaseRoute]:
    """Return ``/web/canaries/{model}``; whoever mounts it decides who may read stored inputs."""

    async def canaries(request: Request) -> Response:
        """Serve the raw inputs of one model's probes."""
        try:
            slot = engine.repository.slot(request.path_params["model"])
        except NotFoundError as error:
            return JSONResponse({"error": str(error)}, 404)
        if slot.model is None:
            return JSONResponse({"error": f"Model {slot.name!r} is not loaded. {slot.reason}"}, 503)
        return JSONResponse(probes(slot.model.canaries, slot.model.manifest.canaries.source))

    return [Route(CANARIES + "{model}", canaries)]


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
