"""Write the service's settings into the chart's schema, so that Helm refuses what the service would not know.

Usage: python deploy/settings_schema.py (or `make chart`). A test compares the committed file with this.
"""

import json
from pathlib import Path
from typing import Any

from clearweight.service.settings import Settings

PATH = Path(__file__).parents[1] / "helm" / "values.schema.json"
MANAGED = frozenset({
    "models", "host", "http_port", "grpc_port", "drain_seconds", "grace_seconds",  # the chart's own values
    "tokens", "admin_tokens",  # secrets do not belong into values
    "token_file", "anonymous_metrics", "tls_cert", "tls_key",  # auth and tls
    "tls_client_ca",  # the cluster's own probes have no certificate to show
})  # fmt: skip
"""Settings that have a place of their own in the chart, or none."""


def schema() -> dict[str, Any]:
    """Return the chart's schema with the settings of this checkout."""
    stated: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    described = Settings.model_json_schema()
    properties = {
        name: {key: value for key, value in field.items() if key != "title"}
        for name, field in sorted(described["properties"].items())
        if name not in MANAGED
    }
    stated["properties"]["settings"] = {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }
    return stated


if __name__ == "__main__":
    PATH.write_text(json.dumps(schema(), indent=2) + "\n", encoding="utf-8")
