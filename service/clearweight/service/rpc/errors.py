"""The one table from the service's errors to gRPC codes."""

import grpc

from clearweight.service.core import errors

CODES: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.TooLargeError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.MediaTypeError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.SlowRequestError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.ForbiddenError: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.QueueFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CallerGoneError: grpc.StatusCode.CANCELLED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.WithheldError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.LoadError: grpc.StatusCode.UNAVAILABLE,
    errors.NonFiniteOutputError: grpc.StatusCode.INTERNAL,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
"""Complete over the concrete classes; a test compares."""


def code_of(error: BaseException) -> grpc.StatusCode:
    """Return the code an exception is answered with."""
    return CODES[type(error)] if isinstance(error, errors.ServiceError) else grpc.StatusCode.INTERNAL
