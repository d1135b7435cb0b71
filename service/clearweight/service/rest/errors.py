"""The one table from the service's errors to HTTP, and the one body every failure has."""

import math

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clearweight.service.core import errors

STATUS: dict[type[errors.ServiceError], int] = {
    errors.InvalidRequestError: 400,
    errors.TooLargeError: 413,
    errors.MediaTypeError: 415,
    errors.SlowRequestError: 408,
    errors.UnauthenticatedError: 401,
    errors.ForbiddenError: 403,
    errors.NotFoundError: 404,
    errors.UnsupportedError: 501,
    errors.QueueFullError: 429,
    errors.DeadlineExceededError: 504,
    errors.CallerGoneError: 499,  # no standard has one; nginx's, seen in metrics alone
    errors.UnavailableError: 503,
    errors.WithheldError: 409,
    errors.LoadError: 503,
    errors.NonFiniteOutputError: 500,
    errors.InternalError: 500,
}
"""Complete over the concrete classes; a test compares."""

_HEADERS = {
    401: {"WWW-Authenticate": 'Bearer realm="clearweight"'},
    408: {"Connection": "close"},
    415: {"Accept-Encoding": "identity"},
    503: {"Retry-After": "5"},
}


def error_response(error: BaseException) -> Response:
    """Answer an exception: one of ours by the table, any other as an internal error under a reference."""
    if not isinstance(error, errors.ServiceError):
        error = errors.internal(error)
    status = STATUS[type(error)]
    headers = _HEADERS.get(status)
    if isinstance(error, errors.QueueFullError):
        headers = {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    return error_body(status, str(error), headers)


def error_body(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return ``{"error": text}``."""
    return Response(orjson.dumps({"error": text}), status, headers, "application/json")


async def answer_http_error(request: Request, error: Exception) -> Response:
    """Answer what a router raises: an unknown path, a wrong verb."""
    del request
    if not isinstance(error, HTTPException):
        return error_response(error)
    return error_body(error.status_code, f"{error.detail}.", dict(error.headers or {}))
