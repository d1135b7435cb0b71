"""Every number the README quotes, each by one command: ``python -m benchmarks NAME``."""

# NAME on the command line -> module with ``run(data, *, quick) -> Iterable[Row]``, imported when asked for.
BENCHMARKS: dict[str, str] = {
    "codec": "benchmarks.codec",
    "compression": "benchmarks.compression",
    "conformance": "benchmarks.conformance",
    "drain": "benchmarks.drain",
    "drift_detection": "benchmarks.drift_detection",
    "explain_exact": "benchmarks.explain_exact",
    "explain_latency": "benchmarks.explain_latency",
    "footprint": "benchmarks.footprint",
    "kernel_quantization": "benchmarks.kernel_quantization",
    "large_export": "benchmarks.large_export",
    "metrics_overhead": "benchmarks.metrics_overhead",
    "overload": "benchmarks.overload",
    "packing": "benchmarks.packing",
    "pareto": "benchmarks.pareto",
    "post_training": "benchmarks.post_training",
    "resident": "benchmarks.resident",
    "service_smoke": "benchmarks.service_smoke",
    "serving": "benchmarks.serving",
    "soak": "benchmarks.soak",
    "squeezenet": "benchmarks.squeezenet",
    "start": "benchmarks.start",
    "structured": "benchmarks.structured",
}

__all__ = ["BENCHMARKS"]
