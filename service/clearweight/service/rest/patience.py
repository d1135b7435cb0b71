"""How long a caller waits for an answer over HTTP: until the time it names, and not after it has left."""

import math

from starlette.requests import Request

from clearweight.service.core.dataplane import Call
from clearweight.service.core.errors import InvalidRequestError

TIMEOUT = "X-Request-Timeout"
"""Seconds from the request's head after which its caller has no use for an answer."""


def bound(call: Call, request: Request) -> None:
    """Read how long the caller will wait, and how to know that it has left.

    Raises
    ------
    InvalidRequestError
        The header is no positive number of seconds.
    """
    call.gone = request.receive
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
