"""The kept inputs of the largest drift, for the admin port alone: they are what users sent.

Whoever mounts the routes decides on which port they are, and for whom.
"""

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import UnsupportedError
from clearweight.service.rest.endpoint import Endpoint, json_response


def worst_routes(engine: Engine) -> list[Route]:
    """Return ``GET /v2/models/NAME[/versions/VERSION]/drift/worst``, for an application's ``router.routes``."""

    async def worst(request: Request) -> Response:
        """Inputs of the largest distance between compressed model and reference, the worst first."""
        slot = engine.repository.slot(request.path_params["model"], request.path_params.get("version"))
        if slot.worst is None:
            raise UnsupportedError(
                "No inputs are kept: set worst_samples, on a service that compares with a reference."
            )
        return json_response(
            {
                "model": slot.name,
                "version": slot.version,
                "samples": [
                    {
                        "pooled_cosine": sample.score,
                        "class": sample.explained_class,
                        "timestamp_seconds": sample.timestamp_seconds,
                        "inputs": {
                            name: np.asarray(values).tolist() for name, values in sample.inputs.items()
                        },
                    }
                    for sample in slot.worst.worst()
                ],
            }
        )

    paths = ("/v2/models/{model}/drift/worst", "/v2/models/{model}/versions/{version}/drift/worst")
    return [Route(path, Endpoint(worst), methods=["GET"]) for path in paths]
