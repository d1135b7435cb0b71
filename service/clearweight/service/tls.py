"""TLS of all ports from one set of files: the same certificate, the same client authorities, at least TLS 1.2."""

import logging
import ssl
from pathlib import Path

import grpc

from clearweight.service.core.errors import LoadError

_LOG = logging.getLogger("clearweight.service.tls")


class Tls:
    """Certificate and key of the server, and whom it asks for a certificate.

    Parameters
    ----------
    certificate, key : path
        PEM; the certificate with its chain. ``refresh`` reads them again.
    client_ca : path, optional
        PEM; when given, a client without a certificate of one of these authorities is turned away (mutual TLS). Read
        once: a change takes a restart.

    Raises
    ------
    LoadError
        A file cannot be read, or certificate and key do not belong together.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate, self._key = certificate, key
        try:
            self.context = _context(certificate, key)
            self._authorities = client_ca.read_bytes() if client_ca else None
            if client_ca:
                self.context.load_verify_locations(client_ca)
                self.context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(path) for path in (certificate, key, client_ca) if path)
            raise LoadError(f"Cannot use the TLS files {files}: {error}.") from error
        self._stamp = self._stamps()
        self._current = self._configuration()

    def refresh(self) -> None:
        """Use a changed certificate for new connections; one that cannot be used leaves the old one in place."""
        try:
            stamp = self._stamps()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            _context(self._certificate, self._key)  # whether they belong together, before anything is touched
            self.context.load_cert_chain(self._certificate, self._key)
            self._current = self._configuration()
        except (OSError, ssl.SSLError) as error:
            _LOG.error("The certificate stays as it was: %s", error)
        else:
            _LOG.info("The certificate was read again.")

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a gRPC port needs; it follows ``refresh``."""
        return grpc.dynamic_ssl_server_credentials(
            self._current, lambda: self._current, require_client_authentication=self._authorities is not None
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (self._key.read_bytes(), self._certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=self._authorities)

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        found = (path.stat() for path in (self._certificate, self._key))
        return tuple((status.st_ino, status.st_mtime_ns, status.st_size) for status in found)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
