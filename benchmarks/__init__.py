"""Every number the README quotes, each by one command: ``python -m benchmarks NAME``."""

# NAME on the command line -> module with ``run(data, *, quick) -> Iterable[Row]``, imported when asked for.
BENCHMARKS: dict[str, str] = {
    "codec": "benchmarks.codec",
    "compression": "benchmarks.compression",
    "drain": "benchmarks.drain",
    "conformance": "benchmarks.conformance",
    "drift_detection": "benchmarks.drift_detection",
    "explain_exact": "benchmarks.explain_exact",
    "explain_latency": "benchmarks.explain_latency",
    "metrics_overhead": "benchmarks.metrics_overhead",
    "packing": "benchmarks.packing",
    "overload": "benchmarks.overload",
    "soak": "benchmarks.soak",
    "start": "benchmarks.start",
    "squeezenet": "benchmarks.squeezenet",
    "pareto": "benchmarks.pareto",
    "service_smoke": "benchmarks.service_smoke",
    "structured": "benchmarks.structured",
}

__all__ = ["BENCHMARKS"]
