"""The model repository extension over REST, in Triton's form: index, load, unload.

Source: Triton Inference Server, model repository extension. Whoever mounts the routes decides on which port they
are, and for whom.
"""

import asyncio
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.types import Scalar
from clearweight.service.core.validation import check_load, check_parameters, check_unload
from clearweight.service.rest.body import read_body
from clearweight.service.rest.endpoint import Row, json_response, routes
from clearweight.service.rest.oip import parse_object

_LONGEST = 1024 * 1024


def repository_table(engine: Engine) -> list[Row]:
    """List the extension's paths."""
    verbs = _Repository(engine)
    # A name may hold anything, so that one with a slash in it is refused as a name and not as a path.
    model = "/v2/repository/models/{model:path}"
    return [
        Row("POST", "/v2/repository/index", verbs.index, "index"),
        Row("POST", f"{model}/load", verbs.load, "repository"),
        Row("POST", f"{model}/unload", verbs.unload, "repository"),
    ]


def repository_routes(engine: Engine) -> list[Route]:
    """Return the routes of the extension, for an application's ``router.routes``."""
    return routes(repository_table(engine))


class _Repository:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def index(self, request: Request) -> Response:
        """Every model and version, with its state and the reason for it."""
        asked = await _object(request)
        ready = asked.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidRequestError(f"'ready' is {ready!r}, expected a boolean.")
        return json_response(
            [
                {"name": found.name, "version": found.version, "state": found.state, "reason": found.reason}
                for found in self._engine.index()
                if not ready or found.state == "READY"
            ]
        )

    async def load(self, request: Request) -> Response:
        """Load a model from the repository folder, or load it again."""
        name = request.path_params["model"]
        check_load(name, await _parameters(request))
        await asyncio.to_thread(self._engine.load, name)
        return json_response({})

    async def unload(self, request: Request) -> Response:
        """Take a model out of service."""
        name = request.path_params["model"]
        check_unload(name, await _parameters(request))
        await asyncio.to_thread(self._engine.unload, name)
        return json_response({})


async def _object(request: Request) -> dict[str, object]:
    # Whatever the content type says: `curl -d '{}'` calls it a form.
    body = await read_body(request, request.headers.get("content-length", "0").encode("latin-1"), _LONGEST)
    return parse_object(body) if body.strip() else {}


async def _parameters(request: Request) -> Mapping[str, Scalar]:
    return check_parameters((await _object(request)).get("parameters", {}), "the request")
