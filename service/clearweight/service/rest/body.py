"""Reading a request body no further than the limit."""

from starlette.requests import Request

from clearweight.service.core.errors import InvalidRequestError, TooLargeError


async def read_body(request: Request, declared: bytes | None, limit: int) -> bytes:
    """Return the body.

    A declared length above the limit is refused before anything is read; an undeclared one as soon as it passes
    the limit, so memory never grows with what a caller claims.

    Parameters
    ----------
    declared : bytes or None
        The header ``Content-Length``.

    Raises
    ------
    TooLargeError
        The body is, or says it is, longer than ``limit`` bytes.
    InvalidRequestError
        The declared length is no number, or the caller left before the end.
    """
    if declared is not None:
        if not declared.isdigit():
            raise InvalidRequestError(f"Content-Length is {declared.decode('latin-1')!r}, expected a number.")
        if int(declared) > limit:
            raise TooLargeError(f"The body has {int(declared)} bytes, the limit is {limit}.")
    first = await request.receive()
    if not first.get("more_body", False) and first["type"] == "http.request":
        body: bytes = first.get("body", b"")
        if len(body) > limit:
            raise TooLargeError(f"The body has {len(body)} bytes, the limit is {limit}.")
        return body
    chunks, size, message = [], 0, first
    while True:
        if message["type"] == "http.disconnect":
            raise InvalidRequestError("The connection closed before the end of the body.")
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > limit:
            raise TooLargeError(f"The body is longer than the limit of {limit} bytes.")
        if not message.get("more_body", False):
            return b"".join(chunks)
        message = await request.receive()
