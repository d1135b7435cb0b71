"""The two ways to a service, each for code that waits and for code that awaits."""

import ssl
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from clearweight.client import rest, rpc
from clearweight.client.errors import (
    CODES,
    ClientError,
    DeadlineError,
    InvalidRequestError,
    ServerError,
    UnreachableError,
)
from clearweight.client.operation import Operation

_HTTP, _GRPC = ("http", "https"), ("grpc", "grpcs")
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Transport(Protocol):
    """Carries one operation there and its answer back."""

    def ask(self, operation: Operation, timeout: float | None) -> Any:
        """Return the answer; ``timeout`` None means the client's own."""

    def close(self) -> None:
        """Hang up."""


class AsyncTransport(Protocol):
    """Carries one operation there and its answer back."""

    async def ask(self, operation: Operation, seconds: float | None) -> Any:
        """Return the answer; ``seconds`` None means the client's own timeout."""

    async def close(self) -> None:
        """Hang up."""


def open_transport(url: str, timeout: float, token: str | None, verify: bool | str) -> Transport:
    """Return the transport of an address.

    Raises
    ------
    InvalidRequestError
        No address of a service, or one of gRPC without ``grpcio``.
    """
    if _scheme(url) in _HTTP:
        return _Http(url, timeout, token, verify)
    return _Rpc(url, timeout, token, verify)


def open_async_transport(url: str, timeout: float, token: str | None, verify: bool | str) -> AsyncTransport:
    """Return the transport of an address, for an event loop."""
    if _scheme(url) in _HTTP:
        return _AsyncHttp(url, timeout, token, verify)
    return _AsyncRpc(url, timeout, token, verify)


def _scheme(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in (*_HTTP, *_GRPC) or not parts.hostname:
        raise InvalidRequestError(
            f"{url!r} is no address of a service, expected http://host:port or grpc://host:port."
        )
    return parts.scheme


def _bearer(token: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def _trusted(verify: bool | str) -> bool | ssl.SSLContext:
    return ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify


class _Http:
    def __init__(self, url: str, timeout: float, token: str | None, verify: bool | str) -> None:
        self._timeout = timeout
        self._client = httpx.Client(base_url=url, headers=_bearer(token), verify=_trusted(verify))

    def ask(self, operation: Operation, timeout: float | None) -> Any:
        asked, seconds = rest.encode(operation), timeout or self._timeout
        try:
            reply = self._client.send(_request(self._client, asked, seconds))
        except httpx.HTTPError as error:
            raise _broken(error, seconds) from error
        return rest.decode(operation, reply.status_code, _lower(reply), reply.content)

    def close(self) -> None:
        self._client.close()


class _AsyncHttp:
    def __init__(self, url: str, timeout: float, token: str | None, verify: bool | str) -> None:
        self._timeout = timeout
        self._client = httpx.AsyncClient(base_url=url, headers=_bearer(token), verify=_trusted(verify))

    async def ask(self, operation: Operation, seconds: float | None) -> Any:
        asked, seconds = rest.encode(operation), seconds or self._timeout
        try:
            reply = await self._client.send(_request(self._client, asked, seconds))
        except httpx.HTTPError as error:
            raise _broken(error, seconds) from error
        return rest.decode(operation, reply.status_code, _lower(reply), reply.content)

    async def close(self) -> None:
        await self._client.aclose()


def _request(
    client: httpx.Client | httpx.AsyncClient, asked: rest.HttpRequest, seconds: float
) -> httpx.Request:
    headers = asked.headers | {rest.TIMEOUT: f"{seconds:g}"}
    return client.build_request(
        asked.method, asked.path, headers=headers, content=asked.content or None, timeout=seconds
    )


def _lower(reply: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in reply.headers.items()}


def _broken(error: httpx.HTTPError, seconds: float) -> ClientError:
    if isinstance(error, httpx.TimeoutException):
        return DeadlineError(f"No answer within {seconds:g} seconds.")
    return UnreachableError(f"The service cannot be reached: {error}.")


class _Rpc:
    def __init__(self, url: str, timeout: float, token: str | None, verify: bool | str) -> None:
        grpc = _grpc()
        self._timeout, self._metadata = timeout, tuple(_bearer(token).items())
        target, credentials = _target(grpc, url, verify)
        self._channel = (
            grpc.secure_channel(target, credentials, _UNLIMITED)
            if credentials
            else grpc.insecure_channel(target, _UNLIMITED)
        )
        self._error = grpc.RpcError

    def ask(self, operation: Operation, timeout: float | None) -> Any:
        method, message = rpc.encode(operation)
        try:
            reply = self._channel.unary_unary(method)(
                message, timeout=timeout or self._timeout, metadata=self._metadata
            )
        except self._error as error:
            raise _failed(error) from error
        return rpc.decode(operation, reply)

    def close(self) -> None:
        self._channel.close()


class _AsyncRpc:
    """Opens its channel at the first call, in the loop that makes it."""

    def __init__(self, url: str, timeout: float, token: str | None, verify: bool | str) -> None:
        self._grpc = _grpc()
        self._timeout, self._metadata = timeout, tuple(_bearer(token).items())
        self._target = _target(self._grpc, url, verify)
        self._channel: Any = None

    async def ask(self, operation: Operation, seconds: float | None) -> Any:
        if self._channel is None:
            target, credentials = self._target
            aio = self._grpc.aio
            self._channel = (
                aio.secure_channel(target, credentials, _UNLIMITED)
                if credentials
                else aio.insecure_channel(target, _UNLIMITED)
            )
        method, message = rpc.encode(operation)
        try:
            reply = await self._channel.unary_unary(method)(
                message, timeout=seconds or self._timeout, metadata=self._metadata
            )
        except self._grpc.aio.AioRpcError as error:
            raise _failed(error) from error
        return rpc.decode(operation, reply)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


def _grpc() -> Any:
    try:
        import grpc  # noqa: PLC0415  # only for addresses of gRPC
    except ImportError:
        raise InvalidRequestError("An address of gRPC takes the package grpcio.") from None
    return grpc


def _target(grpc: Any, url: str, verify: bool | str) -> tuple[str, Any]:
    parts = urlsplit(url)
    if parts.scheme == "grpc":
        return parts.netloc, None
    if verify is False:
        raise InvalidRequestError(
            "gRPC always checks the certificate: give the file of its authority as verify."
        )
    roots = Path(verify).read_bytes() if isinstance(verify, str) else None
    return parts.netloc, grpc.ssl_channel_credentials(roots)


def _failed(error: Any) -> ClientError:
    code, text = error.code().name, error.details() or ""
    if code == "UNAVAILABLE" and "connect" in text.lower():
        return UnreachableError(f"The service cannot be reached: {text}")
    return CODES.get(code, ServerError)(text or code)
