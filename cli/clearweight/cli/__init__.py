"""The `clearweight` command: one verb per file, exporter and service imported only by the verb that needs them."""

from collections.abc import Callable
from typing import Any

from clearweight.cli import (
    bench,
    demo,
    explain,
    explain_check,
    export,
    inspect,
    report,
    serve,
    sign,
    tune,
    verify,
)

VERBS: dict[str, Callable[..., Any]] = {
    "export": export.export,
    "explain": explain.explain,
    "explain-check": explain_check.explain_check,
    "inspect": inspect.inspect,
    "verify": verify.verify,
    "sign": sign.sign,
    "report": report.report,
    "serve": serve.serve,
    "bench": bench.bench,
    "tune": tune.tune,
    "demo": demo.demo,
}

__all__ = ["VERBS"]
