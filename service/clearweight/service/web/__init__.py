"""The page for people: a model's card, a place to try it, its drift as it happens. No build step, works offline."""

from clearweight.service.web.canaries import canary_routes
from clearweight.service.web.routes import is_static, routes

__all__ = ["canary_routes", "is_static", "routes"]
