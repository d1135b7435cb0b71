"""Paths of the page: its files, and the card it shows."""

from mimetypes import guess_type
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from clearweight.service.core.engine import Engine
from clearweight.service.core.model import Model
from clearweight.service.core.slot import Slot
from clearweight.service.web.canaries import CANARIES
from clearweight.service.web.card import card
from clearweight.service.web.of_model import of_model

CARD = "/web/card/"
FILES = Path(__file__).parent / "static"


def routes(engine: Engine) -> list[BaseRoute]:
    """Return ``/`` (the page), ``/docs`` (the API), ``/web/`` (their files) and ``/web/card/{model}``.

    All else that the page shows comes from the public verbs: what it can do, a caller can do.
    """
    # Read once: bytes in memory know no paths to climb and no ranges to get wrong.
    files = {file.name: file.read_bytes() for file in FILES.iterdir()}

    def serve(name: str) -> Response:
        kind = guess_type(name)[0] or "application/octet-stream"
        return Response(files[name], media_type=kind)

    async def page(request: Request) -> Response:
        """Serve the page."""
        del request
        return serve("page.html")

    async def docs(request: Request) -> Response:
        """Serve the page that shows the API."""
        del request
        return serve("docs.html")

    async def part(request: Request) -> Response:
        """Serve a file of a page."""
        name = request.path_params["file"]
        if name not in files:
            raise HTTPException(404, f"No file {name!r} here")
        return serve(name)

    def told(slot: Slot, model: Model) -> dict[str, Any]:
        return card(model.manifest, model.device_bytes, reference=slot.reference is not None)

    return [
        Route("/", page),
        Route("/docs", docs),
        of_model(CARD, engine, told),
        Route("/web/{file}", part),
    ]


def is_static(path: str) -> bool:
    """Whether a path is the page itself or one of its files: the same for everyone, no model's data in them."""
    return path in ("/", "/docs") or (path.startswith("/web/") and not path.startswith((CARD, CANARIES)))
