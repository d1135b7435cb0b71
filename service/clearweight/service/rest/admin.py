"""The application of the admin port: what changes what is served, and what returns stored inputs."""

from collections.abc import Sequence
from importlib.metadata import version as installed_version

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from clearweight.service.core.dataplane import NAME, Dataplane
from clearweight.service.rest.documents import openapi
from clearweight.service.rest.endpoint import json_response, routes
from clearweight.service.rest.errors import answer_http_error
from clearweight.service.rest.repository import repository_table


def create_admin_app(plane: Dataplane, stored: Sequence[BaseRoute] = ()) -> Starlette:
    """Build the application.

    Parameters
    ----------
    stored : sequence of routes
        Whatever else returns inputs that the service keeps.
    """
    table = repository_table(plane.engine)

    async def document(request: Request) -> Response:
        """Describe the port, as ``/openapi.json`` does on the public one."""
        del request
        return json_response(openapi(f"{NAME} admin", installed_version("clearweight"), table, ()))

    return Starlette(
        routes=[*routes(table), Route("/openapi.json", document), *stored],
        exception_handlers={HTTPException: answer_http_error},
    )
