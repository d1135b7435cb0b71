"""The one table from the service's errors to HTTP, and the one body every failure has."""

import orjson
from starlette.responses import Response

from clearweight.service.core import errors

STATUS: dict[type[errors.ServiceError], int] = {
    errors.InvalidRequestError: 400,
    errors.TooLargeError: 413,
    errors.NotFoundError: 404,
    errors.UnsupportedError: 501,
    errors.QueueFullError: 429,
    errors.UnavailableError: 503,
    errors.LoadError: 503,
    errors.NonFiniteOutputError: 500,
    errors.InternalError: 500,
}
"""Complete over the concrete classes; a test compares."""

_RETRY = {429: {"Retry-After": "1"}, 503: {"Retry-After": "5"}}


def error_response(error: BaseException) -> Response:
    """Answer an exception: one of ours by the table, any other as an internal error under a reference."""
    if not isinstance(error, errors.ServiceError):
        error = errors.internal(error)
    status = STATUS[type(error)]
    return error_body(status, str(error), _RETRY.get(status))


def error_body(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return ``{"error": text}``."""
    return Response(orjson.dumps({"error": text}), status, headers, "application/json")
