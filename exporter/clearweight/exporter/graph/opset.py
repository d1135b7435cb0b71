"""Which opset a user's model is explained at: its own from 16 on, 17 where it is older."""

import onnx

from clearweight.exporter.autodiff import MAX_OPSET, MIN_OPSET
from clearweight.exporter.graph.errors import UnsupportedModelError
from clearweight.exporter.outside import check

OLDEST = 7  # before it BatchNormalization, Dropout and broadcasting meant other things
CONVERTED = 17  # the last opset that old networks reach without changed reductions and splits
_CONVERTED_IR = 8  # what onnx wrote with opset 17


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a model uses.

    Raises
    ------
    UnsupportedModelError
        It does not state one.
    """
    for entry in model.opset_import:
        if entry.domain in {"", "ai.onnx"}:
            return int(entry.version)
    stated = ", ".join(entry.domain for entry in model.opset_import) or "none"
    raise UnsupportedModelError(
        f"The model states no opset of the standard operators (stated: {stated}), expected {OLDEST} to {MAX_OPSET}."
    )


def at_supported_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model itself at opset 16 to 26, and a copy converted to opset 17 at opset 7 to 15.

    Raises
    ------
    UnsupportedModelError
        The opset is older than 7 or newer than 26, or onnx cannot convert the model.
    """
    opset = opset_of(model)
    if MIN_OPSET <= opset <= MAX_OPSET:
        return model
    if not OLDEST <= opset < MIN_OPSET:
        raise UnsupportedModelError(
            f"The model has opset {opset}, expected {OLDEST} to {MAX_OPSET}: export it again at opset {CONVERTED}."
        )
    try:
        converted = onnx.version_converter.convert_version(model, CONVERTED)
        check(converted)
    except Exception as error:
        raise UnsupportedModelError(
            f"The model has opset {opset}, and onnx cannot convert it to {CONVERTED} "
            f"({_last_line(error)}): export it again at opset {MIN_OPSET} or later."
        ) from error
    converted.ir_version = max(model.ir_version, _CONVERTED_IR)
    return converted


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
