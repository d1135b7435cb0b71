"""Who may call what: bearer tokens of two roles, the same on both transports (RFC 6750).

A token is compared by its SHA-256, in constant time, with every known one; no token is ever kept, shown or logged.
"""

import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from clearweight.service.core.errors import ForbiddenError, LoadError, UnauthenticatedError

_LOG = logging.getLogger("clearweight.service.access")
_SHORTEST = 16
_LOOK_SECONDS = 1.0


class Role(IntEnum):
    """What a caller may do; each includes those before it."""

    ANYONE = 0
    USER = 1
    ADMIN = 2


class TokenSet:
    """The accepted tokens of one role.

    Parameters
    ----------
    given : str
        Tokens separated by commas, as from an environment variable.
    file : path, optional
        One token per line; empty lines and lines that begin with ``#`` do not count. Read again when it changes: a
        file that has become empty lets nobody in, one that cannot be read leaves the tokens as they were.

    Raises
    ------
    LoadError
        The file cannot be read, or a token is shorter than 16 characters or holds others than visible ASCII.
    """

    def __init__(self, given: str = "", file: Path | None = None) -> None:
        self._given = _digests(given.split(","), "the environment")
        self._file = file
        self._read: list[bytes] = []
        self._seen: tuple[int, int, int] | None = None
        self._looked = 0.0
        if file is not None:
            try:
                self._load(file)
            except OSError as error:
                raise LoadError(f"Cannot read the token file {file}: {error.strerror}.") from error
            if not self._read:
                raise LoadError(f"The token file {file} holds no token.")

    def __bool__(self) -> bool:
        """Whether tokens were configured at all; stays true when a file becomes empty."""
        return self._file is not None or bool(self._given)

    def holds(self, digest: bytes) -> bool:
        """Whether this is the SHA-256 of an accepted token; looks at all of them, whatever is found."""
        self._look()
        found = False
        for known in (*self._given, *self._read):
            found |= hmac.compare_digest(known, digest)
        return found

    def _look(self) -> None:
        if self._file is None or (now := time.monotonic()) - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._load(self._file)
        except (OSError, LoadError) as error:
            _LOG.error("Tokens stay as they were: %s", error)

    def _load(self, file: Path) -> None:
        status = file.stat()
        stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
        if stamp == self._seen:
            return
        self._seen = stamp
        lines = file.read_text("utf-8", errors="replace").splitlines()
        tokens = [line for line in lines if not line.startswith("#")]
        self._read = _digests(tokens, str(file))


def _digests(tokens: list[str], where: str) -> list[bytes]:
    stripped = [token.strip() for token in tokens]
    kept = [token for token in stripped if token]
    for token in kept:
        if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise LoadError(
                f"A token in {where} has {len(token)} characters; expected at least {_SHORTEST}, "
                "visible ASCII without spaces."
            )
    return [hashlib.sha256(token.encode("ascii")).digest() for token in kept]


class Access:
    """Checks the ``Authorization`` of requests.

    Parameters
    ----------
    user, admin : TokenSet
        Without user tokens everyone is a user; the role of an administrator always takes a token.
    anonymous_health, anonymous_metrics : bool
        Whether probes and scrapes go without a token where users need one.
    refused : callable, optional
        Told of every refusal: ``unauthenticated`` or ``forbidden``.
    tokenless : bool
        Everyone is an administrator; for a port that only this machine reaches.
    """

    def __init__(
        self,
        user: TokenSet | None = None,
        admin: TokenSet | None = None,
        *,
        anonymous_health: bool = True,
        anonymous_metrics: bool = False,
        refused: Callable[[str], None] | None = None,
        tokenless: bool = False,
    ) -> None:
        self.tokenless = tokenless
        self._refused = refused or (lambda _: None)
        self.user, self.admin = user or TokenSet(), admin or TokenSet()
        self.health = Role.ANYONE if anonymous_health else Role.USER
        self.metrics = Role.ANYONE if anonymous_metrics else Role.USER

    def demand(self, needed: Role, authorization: str | None) -> None:
        """Let a request pass or not.

        Parameters
        ----------
        authorization : str or None
            The header, ``Bearer TOKEN``.

        Raises
        ------
        UnauthenticatedError
            No token, or none that is known.
        ForbiddenError
            A known one, of a role that may not.
        """
        if self._open_to_all(needed):
            return
        try:
            self._check(needed, authorization)
        except UnauthenticatedError:
            self._refused("unauthenticated")
            raise
        except ForbiddenError:
            self._refused("forbidden")
            raise

    def admits(self, needed: Role, authorization: str | None) -> bool:
        """Tell whether ``demand`` would let a request pass; nobody is told of a refusal."""
        try:
            if not self._open_to_all(needed):
                self._check(needed, authorization)
        except (UnauthenticatedError, ForbiddenError):
            return False
        return True

    def _open_to_all(self, needed: Role) -> bool:
        return self.tokenless or needed == Role.ANYONE or (needed == Role.USER and not self.user)

    def _check(self, needed: Role, authorization: str | None) -> None:
        if authorization is None:
            raise UnauthenticatedError("This needs a bearer token: Authorization: Bearer TOKEN.")
        scheme, _, token = authorization.partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        admin, user = self.admin.holds(digest), self.user.holds(digest)
        if scheme.lower() != "bearer" or not (admin or user):
            raise UnauthenticatedError("The bearer token is not known.")
        if needed == Role.ADMIN and not admin:
            raise ForbiddenError("This needs an administrator's token.")
