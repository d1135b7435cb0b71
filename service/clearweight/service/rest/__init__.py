"""REST over the core: Open Inference Protocol, KServe V1, TorchServe's explain path."""

from clearweight.service.rest.admin import create_admin_app
from clearweight.service.rest.app import create_app
from clearweight.service.rest.connection import Bounds
from clearweight.service.rest.edge import guarded
from clearweight.service.rest.errors import STATUS
from clearweight.service.rest.listening import closing
from clearweight.service.rest.repository import repository_routes
from clearweight.service.rest.server import RestServer
from clearweight.service.rest.turnstile import Turnstile

__all__ = [
    "STATUS",
    "Bounds",
    "RestServer",
    "Turnstile",
    "closing",
    "create_admin_app",
    "create_app",
    "guarded",
    "repository_routes",
]
