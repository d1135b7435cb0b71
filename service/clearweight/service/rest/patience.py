"""How long a caller waits for an answer over HTTP: until the time it names, and not after it has left."""

import math

from starlette.requests import Request

from clearweight.service.core.dataplane import Call
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.rest.connection import ARRIVED

TIMEOUT = "X-Request-Timeout"
"""Seconds from the request's head after which its caller has no use for an answer."""


def bound(call: Call, request: Request) -> None:
    """Read since when the caller waits, for how long it will, and how to know that it has left.

    Raises
    ------
    InvalidRequestError
        The header is no positive number of seconds.
    """
    call.gone = request.receive
    call.started = request.scope.get(ARRIVED, call.started)
    seconds = request.headers.get(TIMEOUT)
    if seconds is None:
        return
    try:
        limit = float(seconds)
    except ValueError:
        limit = math.nan
    if not 0.0 < limit < math.inf:
        raise InvalidRequestError(f"Header {TIMEOUT} is {seconds!r}, expected a positive number of seconds.")
    call.deadline = call.started + limit
