"""Where a reference on another machine is; what calls it loads HTTP and TLS, and only where it is used."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

SCHEMES = ("http", "https", "grpc", "grpcs")


class RemoteReferenceError(RuntimeError):
    """The other service could not be reached, or did not answer as a reference does."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Where the reference is, and how this device shows who it is.

    ``url`` is ``http://``, ``https://``, ``grpc://`` or ``grpcs://``, host, port and nothing else; ``token_file`` holds
    a bearer token and is read for every call, so that it can be replaced; ``ca_file`` is who may vouch for the other
    side, default the system's; ``certificate_file`` and ``key_file`` are this device's own, for mutual TLS.
    """

    url: str
    timeout_seconds: float = 5.0
    token_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @property
    def scheme(self) -> str:
        """One of ``SCHEMES``."""
        return urlsplit(self.url).scheme

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        known = parts.scheme in SCHEMES and parts.hostname and "@" not in parts.netloc
        if not known or parts.path not in ("", "/"):
            raise ValueError(
                f"reference_url is {self.url!r}, expected {', '.join(SCHEMES[:-1])} or {SCHEMES[-1]}, "
                "then ://HOST:PORT."
            )
