"""Logs as JSON, one object per line on standard error, each with the id of the request it belongs to.

One line is written per request. It names a route template and a served model, never a path, a query, a header, a body
or an address: nothing that a caller chose, but for a request id whose characters were checked.
"""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from clearweight.service.core.context import CURRENT, RequestContext

LEVELS = ("debug", "info", "warning", "error")
REQUESTS = logging.getLogger("clearweight.service.request")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON; what a caller hands over as ``extra={"fields": {...}}`` becomes fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = CURRENT.get()
        if context is not None:
            line["request_id"], line["trace_id"] = context.request_id, context.trace_id
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(level: str) -> None:
    """Send every logger's records from ``level`` on to standard error as JSON: ours, uvicorn's, asyncio's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)


def log_request(
    context: RequestContext,
    protocol: str,
    method: str,
    status: int | str,
    seconds: float,
    sizes: tuple[int, int],
    *,
    failed: bool,
) -> None:
    """Write the one line of a request.

    Parameters
    ----------
    sizes : (int, int)
        Bytes of the body that came and of the one that went.
    failed : bool
        By our fault; such a line is a warning.
    """
    level = logging.WARNING if failed else logging.INFO
    if not REQUESTS.isEnabledFor(level):
        return
    fields: dict[str, Any] = {
        "protocol": protocol,
        "method": method,
        "route": context.route,
        "status": status,
        "duration_seconds": round(seconds, 6),
        "request_bytes": sizes[0],
        "response_bytes": sizes[1],
    }
    if context.model:
        fields |= {"model": context.model, "version": context.version}
    REQUESTS.log(level, "request", extra={"fields": fields})
