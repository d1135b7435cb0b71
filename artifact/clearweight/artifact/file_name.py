"""Which names files, models and versions may have (SPEC.md section 1), and how large a file may be."""

import re

from clearweight.artifact.errors import FileNameError

MANIFEST = "manifest.json"
WEIGHTS = "weights.cwt"
PREDICT = "predict.onnx"
CANARIES = "canaries.safetensors"
REPORT = "report.html"
SIGNATURE = "manifest.sig"
REFERENCE_SUFFIX = "-reference"
ONNX_SUFFIX = "-onnx"
UNFINISHED = ".partial-"  # inside the name of a folder that is still being written

GRAPH_FILES = re.compile(r"explain\.[a-z][a-z0-9_]{0,39}\.onnx\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

MIB = 1 << 20
FILE_LIMITS = {
    MANIFEST: 16 * MIB,
    PREDICT: 64 * MIB,  # structure only
    WEIGHTS: 4096 * MIB,
    CANARIES: 256 * MIB,
    REPORT: 64 * MIB,
    SIGNATURE: 64,  # bytes
}
GRAPH_LIMIT = 64 * MIB


def check_file_name(name: str) -> int:
    """Refuse a name that is no file of an artifact; return the most bytes such a file may hold.

    Raises
    ------
    FileNameError
        Anything but the seven kinds of file; so no folder, no dot-dot, no absolute path can pass.
    """
    if name in FILE_LIMITS:
        return FILE_LIMITS[name]
    if GRAPH_FILES.match(name):
        return GRAPH_LIMIT
    raise FileNameError(
        f"File name {name!r} is not one of {', '.join(sorted(FILE_LIMITS))} or explain.<method>.onnx."
    )


def check_model_name(name: str) -> None:
    """Refuse a model name that could not be a folder's name everywhere.

    Raises
    ------
    FileNameError
        Not 1 to 64 of letters, digits, dot, underscore, hyphen, or not beginning with letter or digit.
    """
    _check_component(name, "Model name")


def check_version(version: str) -> None:
    """Refuse a version that could not be a folder's name, or that ends as a companion folder does.

    Raises
    ------
    FileNameError
        As for model names; or the version ends with ``-reference`` or ``-onnx``.
    """
    _check_component(version, "Version")
    if version.endswith((REFERENCE_SUFFIX, ONNX_SUFFIX)):
        raise FileNameError(
            f"Version {version!r} ends with {REFERENCE_SUFFIX} or {ONNX_SUFFIX}, which mark companions."
        )


def _check_component(name: str, what: str) -> None:
    if not _NAME.match(name) or ".." in name:
        raise FileNameError(
            f"{what} {name!r}: expected 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit, without '..'."
        )
