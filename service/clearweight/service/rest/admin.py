"""The application of the admin port: what changes what is served, and what returns stored inputs."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from clearweight.service.core.dataplane import Dataplane
from clearweight.service.rest.errors import answer_http_error
from clearweight.service.rest.repository import repository_routes


def create_admin_app(plane: Dataplane, stored: Sequence[BaseRoute] = ()) -> Starlette:
    """Build the application.

    Parameters
    ----------
    stored : sequence of routes
        Whatever else returns inputs that the service keeps.
    """
    return Starlette(
        routes=[*repository_routes(plane.engine), *stored],
        exception_handlers={HTTPException: answer_http_error},
    )
