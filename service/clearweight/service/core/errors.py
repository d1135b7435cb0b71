"""What can go wrong in the service, free of any transport.

::

    ServiceError
    ├── InvalidRequestError      (ValueError)           the caller's mistake: name, shape, type, size, parameter
    ├── TooLargeError            (ValueError)           more bytes or elements than the limits allow
    ├── MediaTypeError           (ValueError)           a body in a form that is not read, such as a compressed one
    ├── SlowRequestError         (TimeoutError)         the body did not arrive in time
    ├── UnauthenticatedError     (PermissionError)      no token, or one that is not known
    ├── ForbiddenError           (PermissionError)      a known caller who may not do this
    ├── NotFoundError            (LookupError)          no such model or version
    ├── UnsupportedError         (NotImplementedError)  a feature this artifact was not built with
    ├── QueueFullError           (RuntimeError)         the model's bounded queue is full, or too slow; try again later
    ├── DeadlineExceededError    (TimeoutError)         the caller's deadline passed before the answer was there
    ├── CallerGoneError          (ConnectionError)      the caller left before the answer was there
    ├── UnavailableError         (RuntimeError)         known, but not ready: refused, failed its self-test, draining
    ├── WithheldError            (RuntimeError)         an explanation that its model's drift alarm forbids
    ├── LoadError                (RuntimeError)         an artifact that cannot be loaded at all
    ├── NonFiniteOutputError     (ArithmeticError)      a result that JSON has no way to write
    └── InternalError            (RuntimeError)         ours; the text is a reference, the cause is in the log only

Each transport owns one table from these classes to its codes (``rest/errors.py``, ``rpc/errors.py``); a test
demands that both tables are complete.
"""

import logging
import secrets

_LOG = logging.getLogger("clearweight.service")


class ServiceError(Exception):
    """Root of everything the service raises on purpose."""


class InvalidRequestError(ServiceError, ValueError):
    """The request contradicts the protocol or the model's metadata."""


class TooLargeError(ServiceError, ValueError):
    """The request is larger than the limits allow."""


class MediaTypeError(ServiceError, ValueError):
    """The body comes in a form that is not read."""


class SlowRequestError(ServiceError, TimeoutError):
    """The request did not arrive in time."""


class UnauthenticatedError(ServiceError, PermissionError):
    """The caller did not prove who it is."""


class ForbiddenError(ServiceError, PermissionError):
    """The caller is known and may not do this."""


class NotFoundError(ServiceError, LookupError):
    """No model or version of that name."""


class UnsupportedError(ServiceError, NotImplementedError):
    """The artifact was built without what was asked for."""


class QueueFullError(ServiceError, RuntimeError):
    """The queue is full, or nobody came to the request in time; ``retry_after`` is the estimate of when it helps."""

    def __init__(self, text: str, retry_after: float = 1.0) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class DeadlineExceededError(ServiceError, TimeoutError):
    """The deadline passed before the answer was there."""


class CallerGoneError(ServiceError, ConnectionError):
    """Nobody waits for the answer any more."""


class UnavailableError(ServiceError, RuntimeError):
    """The model or the service is known but does not take work now."""


class WithheldError(ServiceError, RuntimeError):
    """The model is in drift alarm, and its policy is to give no explanations then."""


class LoadError(ServiceError, RuntimeError):
    """An artifact cannot be loaded."""


class NonFiniteOutputError(ServiceError, ArithmeticError):
    """An output holds NaN or infinity and the reply was to be JSON."""


class InternalError(ServiceError, RuntimeError):
    """An unexpected failure, known to the caller by its reference only."""


def internal(error: BaseException) -> InternalError:
    """Log an unexpected exception under a fresh reference and return what the caller may see."""
    reference = secrets.token_hex(4)
    _LOG.error("Internal error. Reference %s.", reference, exc_info=error)
    return InternalError(f"Internal error. Reference {reference}.")
