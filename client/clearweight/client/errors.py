"""What a call can end with, as its caller would tell it apart; alike over REST and gRPC.

ClientError
├── InvalidRequestError     (ValueError)       the request contradicts the protocol or the model
├── TooLargeError           (ValueError)       more than the service's limits allow
├── NotFoundError           (LookupError)      no such model or version
├── UnauthenticatedError    (PermissionError)  no token, or a wrong one
├── ForbiddenError          (PermissionError)  the token does not allow it
├── OverloadedError         (RuntimeError)     the queue is full: try again after ``retry_after`` seconds
├── UnavailableError        (RuntimeError)     loading, unloaded or shutting down
├── UnsupportedError        (RuntimeError)     the model was built without what was asked for
├── DeadlineError           (TimeoutError)     no answer in time
├── UnreachableError        (ConnectionError)  nobody answers there
└── ServerError             (RuntimeError)     the service failed; its log knows the reference
"""


class ClientError(Exception):
    """Root of everything the client raises on purpose."""


class InvalidRequestError(ClientError, ValueError):
    """The request contradicts the protocol or the model."""


class TooLargeError(ClientError, ValueError):
    """More than the service's limits allow."""


class NotFoundError(ClientError, LookupError):
    """No such model or version."""


class UnauthenticatedError(ClientError, PermissionError):
    """No token, or a wrong one."""


class ForbiddenError(ClientError, PermissionError):
    """The token does not allow it."""


class OverloadedError(ClientError, RuntimeError):
    """The queue is full; ``retry_after`` is the service's own estimate in seconds, None where it gave none."""

    retry_after: float | None = None


class UnavailableError(ClientError, RuntimeError):
    """Loading, unloaded or shutting down."""


class UnsupportedError(ClientError, RuntimeError):
    """The model was built without what was asked for."""


class DeadlineError(ClientError, TimeoutError):
    """No answer in time."""


class UnreachableError(ClientError, ConnectionError):
    """Nobody answers there."""


class ServerError(ClientError, RuntimeError):
    """The service failed; its log knows the reference."""


STATUS: dict[int, type[ClientError]] = {
    400: InvalidRequestError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    413: TooLargeError,
    429: OverloadedError,
    501: UnsupportedError,
    503: UnavailableError,
    504: DeadlineError,
}
"""HTTP status to error; any other is a ServerError."""

CODES: dict[str, type[ClientError]] = {
    "INVALID_ARGUMENT": InvalidRequestError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": ForbiddenError,
    "NOT_FOUND": NotFoundError,
    "RESOURCE_EXHAUSTED": OverloadedError,
    "UNIMPLEMENTED": UnsupportedError,
    "UNAVAILABLE": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
}
"""gRPC code to error; any other is a ServerError. A message too large and a full queue share a code."""
