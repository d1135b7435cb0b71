"""Failures as the shell sees them: one line on standard error and an exit code, never a traceback for bad input."""

import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec, TypeVar

import typer

DONE, FAILED_CHECK, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

# Where each part keeps the root of its errors. A root is looked up only in modules that are loaded already: a part
# that was never imported cannot have raised anything, and importing it here would cost seconds.
ROOTS = {
    "clearweight.artifact.errors": "ArtifactError",
    "clearweight.exporter.errors": "ExporterError",
    "clearweight.service.core.errors": "ServiceError",
}
# Which extra brings a module that is missing.
EXTRAS = {
    "exporter": frozenset(
        {"torch", "onnx", "onnx_ir", "onnxscript", "lightning_fabric", "yaml", "sklearn", "jinja2"}
    ),
    "sign": frozenset({"cryptography"}),
    "tracing": frozenset({"opentelemetry"}),
    "ray": frozenset({"ray", "pandas", "pyarrow"}),
    "service": frozenset(
        {"onnxruntime", "grpc", "fastapi", "uvicorn", "orjson", "pydantic", "pydantic_settings"}
    ),
}

Given = ParamSpec("Given")
Result = TypeVar("Result")


def stop(message: str, code: int = BAD_INPUT) -> NoReturn:
    """Say why on standard error, in one line, and end with ``code``."""
    typer.echo(" ".join(message.split()), err=True)
    raise typer.Exit(code)


def expected_errors() -> tuple[type[Exception], ...]:
    """Return the error roots of the parts that are loaded, and what the file system raises."""
    loaded = ((sys.modules.get(module), name) for module, name in ROOTS.items())
    return (OSError, *(getattr(module, name) for module, name in loaded if module is not None))


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return the advice for a dependency that is not installed; None if the module is no dependency of ours."""
    wanted = (error.name or "").partition(".")[0]
    extra = next((name for name, modules in EXTRAS.items() if wanted in modules), None)
    return (
        extra and f"This verb needs {wanted!r}, which is not installed: pip install 'clearweight[{extra}]'."
    )


def guarded(verb: Callable[Given, Result]) -> Callable[Given, Result]:
    """Turn what a verb may raise into a line and an exit code; an error of our own making keeps its traceback."""

    @functools.wraps(verb)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return verb(*args, **kwargs)
        except KeyboardInterrupt:
            stop("interrupted; nothing was written", INTERRUPTED)
        except ModuleNotFoundError as error:
            if (advice := missing_extra(error)) is None and not isinstance(error, expected_errors()):
                raise
            stop(advice or str(error))
        except Exception as error:
            if not isinstance(error, expected_errors()):
                raise
            stop(str(error) or type(error).__name__)

    return run
