"""Ask a running service for what it is there for: readiness, a prediction and an explanation of every model, metrics.

Usage: probe.py http://HOST:PORT. The standard library alone, so that it runs in the service's own image: `helm test`
starts it in the cluster, the container test inside the container. CLEARWEIGHT_TOKEN is sent where it is set, and
CLEARWEIGHT_CA names the authority of a certificate of one's own.
"""

import json
import os
import ssl
import sys
import urllib.request
from math import isfinite, prod
from typing import Any


class Service:
    """One service by its base URL."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        authority = os.environ.get("CLEARWEIGHT_CA")
        self._context = ssl.create_default_context(cafile=authority) if base.startswith("https:") else None

    def call(self, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Return the answer's body; an error status raises with the service's own words."""
        request = urllib.request.Request(self._base + path)  # noqa: S310  # the caller's own URL
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        if token := os.environ.get("CLEARWEIGHT_TOKEN"):
            request.add_header("Authorization", f"Bearer {token.split()[0]}")
        try:
            with urllib.request.urlopen(request, timeout=30, context=self._context) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{path}: {error.code} {error.read().decode(errors='replace')}") from error


def probe_input(spec: dict[str, Any]) -> dict[str, Any]:
    """Return one row for an input of a model's metadata: a ramp, so that no two places are equal."""
    shape = [1 if size == -1 else size for size in spec["shape"]]
    count = prod(shape)
    whole = not spec["datatype"].startswith(("FP", "BF"))
    values = [index % 100 if whole else index / count for index in range(count)]
    return {"name": spec["name"], "shape": shape, "datatype": spec["datatype"], "data": values}


def check(service: Service, model: str) -> str:
    """Predict and explain one row with one model; return what came back in words."""
    metadata = json.loads(service.call(f"/v2/models/{model}"))
    asked = {"inputs": [probe_input(spec) for spec in metadata["inputs"]]}
    predicted = json.loads(service.call(f"/v2/models/{model}/infer", asked))
    (logits,) = [
        tensor for tensor in predicted["outputs"] if tensor["name"] == metadata["outputs"][0]["name"]
    ]
    explained = json.loads(service.call(f"/v2/models/{model}/explain", asked))
    attribution = explained["outputs"][0]
    for tensor in (logits, attribution):
        if len(tensor["data"]) != prod(tensor["shape"]) or not all(map(isfinite, tensor["data"])):
            raise SystemExit(f"{model}: output {tensor['name']!r} is not {tensor['shape']} finite numbers.")
    if not any(attribution["data"]):
        raise SystemExit(f"{model}: the attribution map is zero everywhere.")
    parameters = explained["parameters"]
    return (
        f"{model}: predicted class {logits['data'].index(max(logits['data']))}, explained by {parameters['method']} "
        f"as {attribution['shape']}, drift {parameters['drift_state']}"
    )


def main(base: str) -> None:
    """Check readiness, every model, and the metrics."""
    service = Service(base)
    service.call("/v2/health/ready")
    models = json.loads(service.call("/v2/models"))["models"]
    if not models:
        raise SystemExit("The service has no models.")
    for model in models:
        sys.stdout.write(check(service, model) + "\n")
    if b"clearweight_build_info" not in service.call("/metrics"):
        raise SystemExit("/metrics lacks clearweight_build_info.")


if __name__ == "__main__":
    main(sys.argv[1])
