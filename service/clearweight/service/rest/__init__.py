"""REST over the core: Open Inference Protocol, KServe V1, TorchServe's explain path."""

from clearweight.service.rest.app import create_app
from clearweight.service.rest.errors import STATUS
from clearweight.service.rest.repository import repository_routes

__all__ = ["STATUS", "create_app", "repository_routes"]
