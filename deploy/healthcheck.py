"""Exit 0 while the service in this container is live; the standard library alone, for a start in milliseconds."""

import http.client
import os
import ssl
import sys

port = int(os.environ.get("CLEARWEIGHT_HTTP_PORT", "8080"))
if os.environ.get("CLEARWEIGHT_TLS_CERTIFICATE"):
    # The question is whether this very process answers, and the certificate names another host than this one.
    secure = ssl._create_unverified_context()  # noqa: S323, SLF001
    connection: http.client.HTTPConnection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=3, context=secure
    )
else:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
connection.request("GET", "/v2/health/live")
sys.exit(connection.getresponse().status != http.HTTPStatus.OK)
