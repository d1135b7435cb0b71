"""What every call passes on its way in and out, whatever its method: identity, admission, errors, its line in the log.

Services are registered here instead of at the server, and every method is wrapped as it comes, so that none can be
without it. (An interceptor would do the same, for one more coroutine a call.) Messages are taken as bytes and read
here: an unknown caller's message is never parsed, and a malformed one is the caller's mistake.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import grpc

from clearweight.service.access import Access, Role
from clearweight.service.core.context import CURRENT, RequestContext
from clearweight.service.core.errors import (
    ForbiddenError,
    InvalidRequestError,
    ServiceError,
    UnsupportedError,
    internal,
)
from clearweight.service.log import log_request
from clearweight.service.rpc.errors import code_of

_INFERENCE = "/inference.GRPCInferenceService/"
HEALTH = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/List",
        "/grpc.health.v1.Health/Watch",
        f"{_INFERENCE}ServerLive",
        f"{_INFERENCE}ServerReady",
    }
)
ADMIN = frozenset(f"{_INFERENCE}Repository{verb}" for verb in ("Index", "ModelLoad", "ModelUnload"))
UNKNOWN_METHOD = "unknown"
_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}
_OURS = frozenset({"INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS"})

Finished = Callable[[RequestContext, str, int | str, bool], None]
"""(context, protocol, status, failed): told of every call at its end, for traces."""


class Edge(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # without types
    """The layer; to generated code it is a server, to the server it is the handler of everything.

    Parameters
    ----------
    access : Access
        Who may call what.
    admin : bool
        Whether the repository verbs answer at all; they always take an administrator's token.
    finished : callable, optional
        Told of every call at its end.
    """

    def __init__(self, access: Access, *, admin: bool = False, finished: Finished | None = None) -> None:
        self._access, self._admin = access, admin
        self.finished = finished
        self._methods: dict[str, Any] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Take the methods of a service."""
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            self._methods[method] = self._wrap(method, handler)

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing: generated code registers its methods both ways."""

    def service(self, handler_call_details: Any) -> Any:
        """Return a method's handler behind this layer."""
        method = handler_call_details.method
        found = self._methods.get(method)
        # An unknown one as a stream, which reads nothing before it answers.
        return found or grpc.stream_stream_rpc_method_handler(self._unknown(method))

    def admit(self, method: str, authorization: str | None) -> None:
        """Refuse who may not call this method.

        Raises
        ------
        UnauthenticatedError, ForbiddenError
        """
        needed = Role.USER
        if method in HEALTH:
            needed = self._access.health
        elif method in ADMIN:
            needed = Role.ADMIN
            if not self._admin:
                raise ForbiddenError("The repository verbs are switched off.")
        self._access.demand(needed, authorization)

    def _unknown(self, method: str) -> Any:
        async def refuse(_: AsyncIterator[bytes], context: Any) -> None:
            async with _Call(self, method, context, UNKNOWN_METHOD):
                raise UnsupportedError("This service has no such method.")

        return refuse

    def _wrap(self, method: str, handler: Any) -> Any:
        parse, answer, serialize = (
            handler.request_deserializer,
            handler.unary_unary,
            handler.response_serializer,
        )

        async def unary_unary(message: bytes, context: Any) -> bytes:
            call = _Call(self, method, context)
            try:  # as ``async with`` would, for two coroutines less
                call.enter()
                reply = call.write(serialize, await answer(call.read(parse, message), context))
            except BaseException as error:
                await call.leave(error)
                raise
            call.close(_code(context))
            return reply

        async def unary_stream(message: bytes, context: Any) -> None:
            async with _Call(self, method, context) as call:
                replies = handler.unary_stream(call.read(handler.request_deserializer, message), context)
                if not hasattr(replies, "__aiter__"):
                    await replies  # it writes for itself, as the health service does
                    return
                async for reply in replies:
                    await context.write(reply)

        async def stream_stream(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            async with _Call(self, method, context) as call:
                requests = (call.read(handler.request_deserializer, message) async for message in messages)
                async for reply in handler.stream_stream(requests, context):
                    yield call.write(handler.response_serializer, reply)

        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(unary_unary)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(unary_stream, None, handler.response_serializer)
        return grpc.stream_stream_rpc_method_handler(stream_stream)


class _Call:
    """One call, from its metadata to its code."""

    __slots__ = ("_context", "_edge", "_method", "_received", "_request", "_route", "_sent")

    def __init__(self, edge: Edge, method: str, context: Any, route: str = "") -> None:
        self._edge, self._method, self._context, self._route = edge, method, context, route or method
        self._received = self._sent = 0

    def enter(self) -> None:
        """Read who calls, and whether it may.

        Raises
        ------
        UnauthenticatedError, ForbiddenError
        """
        metadata = dict(self._context.invocation_metadata())  # text, but for names that end in -bin
        request = RequestContext.arrive(
            metadata.get("x-request-id"),
            metadata.get("traceparent"),
            sampled=self._edge.finished is not None,
        )
        request.route = self._route
        self._request = request
        CURRENT.set(request)  # a call has a task, and so a context, of its own
        self._context.set_trailing_metadata(
            (("x-request-id", request.request_id), ("traceparent", request.traceparent))
        )
        self._edge.admit(self._method, metadata.get("authorization"))

    async def leave(self, error: BaseException) -> None:
        """Answer a failure; one that is an answer already, or a cancellation, is only told of."""
        if isinstance(error, grpc.aio.AbortError):
            self.close(_code(self._context))
        elif isinstance(error, Exception):
            known = error if isinstance(error, ServiceError) else internal(error)
            code = code_of(known)
            self.close(code.name)
            await self._context.abort(code, str(known))
        else:
            self.close("CANCELLED")

    async def __aenter__(self) -> Self:
        try:
            self.enter()
        except ServiceError as error:
            await self.leave(error)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close(_code(self._context))
        else:
            await self.leave(error)

    def close(self, status: str) -> None:
        """Write the call's line in the log, and tell of its end."""
        failed = status in _OURS
        seconds = time.monotonic() - self._request.began
        sizes = (self._received, self._sent)
        log_request(self._request, "grpc", "POST", status, seconds, sizes, failed=failed)
        if self._edge.finished is not None:
            self._edge.finished(self._request, "grpc", status, failed)

    def read(self, parse: Callable[[bytes], Any], message: bytes) -> Any:
        """Parse a message.

        Raises
        ------
        InvalidRequestError
            It is none of this method's.
        """
        self._received += len(message)
        try:
            return parse(message)
        except Exception as error:
            raise InvalidRequestError(f"The message is no request of {self._method}.") from error

    def write(self, serialize: Callable[[Any], bytes], reply: Any) -> bytes:
        """Write a reply."""
        written = serialize(reply)
        self._sent += len(written)
        if self._request.answered:
            self._request.note("encode", self._request.answered, time.monotonic())
        return written


def _code(context: Any) -> str:
    code = context.code()
    return code.name if isinstance(code, grpc.StatusCode) else _NAMES.get(code, "OK")
