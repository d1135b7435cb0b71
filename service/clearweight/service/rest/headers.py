"""Headers of every reply: who asked, and what a browser may do with the answer."""

from collections.abc import Iterable

from clearweight.service.core.context import RequestContext

Headers = Iterable[tuple[bytes, bytes]]

_ALWAYS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_STORE = (b"cache-control", b"no-store")
# A page that carries all it needs: its own scripts and styles, pictures it makes itself, calls to its own origin.
_PAGE = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    b"font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OURS = frozenset({b"content-security-policy", b"cache-control", *(name for name, _ in _ALWAYS)})


def reply_headers(headers: Headers, context: RequestContext) -> list[tuple[bytes, bytes]]:
    """Add to a reply's headers what every reply has; what the route itself set stays."""
    return [*with_defaults(headers), *identity(context)]


def with_defaults(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Add what every reply has, whoever asked."""
    given = list(headers)
    named = {name for name, _ in given if name in _OURS}
    kept = [pair for pair in _ALWAYS if pair[0] not in named]
    if _STORE[0] not in named:
        kept.append(_STORE)
    if b"content-security-policy" not in named:
        kept.append((b"content-security-policy", _PAGE))
    return [*given, *kept]


def identity(context: RequestContext) -> tuple[tuple[bytes, bytes], ...]:
    """Say whose reply it is."""
    return (
        (b"x-request-id", context.request_id.encode("ascii")),
        (b"traceparent", context.traceparent.encode("ascii")),
    )
