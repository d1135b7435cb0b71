"""Where a reference on another machine is; what calls it loads HTTP and TLS, and only where it is used."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


class RemoteReferenceError(RuntimeError):
    """The other service could not be reached, or did not answer as a reference does."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """Where the reference is, and how this device shows who it is.

    ``url`` is ``http://`` or ``https://``, host, port and nothing else; ``token_file`` holds a bearer token and is read
    for every connection, so that it can be replaced; ``ca_file`` is who may vouch for the other side, default the
    system's; ``certificate_file`` and ``key_file`` are this device's own, for mutual TLS.
    """

    url: str
    timeout_seconds: float = 5.0
    token_file: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(
                f"reference_url is {self.url!r}, expected http://HOST:PORT or https://HOST:PORT."
            )
