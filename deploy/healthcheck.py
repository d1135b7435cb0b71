"""Exit 0 while the service in this container is live; the standard library alone, for a start in milliseconds."""

import http.client
import os
import ssl
import sys

port = int(os.environ.get("CLEARWEIGHT_HTTP_PORT", "8080"))
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
if os.environ.get("CLEARWEIGHT_TLS_CERT"):
    # The question is whether this very process answers, and the certificate names another host than this one.
    trusting = ssl._create_unverified_context()  # noqa: S323, SLF001
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=3, context=trusting)
try:
    connection.request("GET", "/v2/health/live")
    sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
except (ssl.SSLError, ConnectionResetError):
    # Where clients must show a certificate, being turned away is a sign of life.
    sys.exit("CLEARWEIGHT_TLS_CLIENT_CA" not in os.environ)
