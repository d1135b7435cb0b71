"""A JSON answer about one loaded model, or why there is none."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from clearweight.service.core.engine import Engine
from clearweight.service.core.errors import NotFoundError
from clearweight.service.core.model import Model
from clearweight.service.core.slot import Slot


def of_model(path: str, engine: Engine, tell: Callable[[Slot, Model], dict[str, Any]]) -> Route:
    """Return the route ``path`` + ``{model}``: what ``tell`` says, 404 for no such model, 503 for one not loaded."""

    async def answer(request: Request) -> JSONResponse:
        """Tell about one model."""
        try:
            slot = engine.repository.slot(request.path_params["model"])
        except NotFoundError as error:
            return JSONResponse({"error": str(error)}, 404)
        if slot.model is None:
            return JSONResponse({"error": f"Model {slot.name!r} is not loaded. {slot.reason}"}, 503)
        return JSONResponse(tell(slot, slot.model))

    return Route(path + "{model}", answer)
