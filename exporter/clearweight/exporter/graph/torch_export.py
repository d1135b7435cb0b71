"""From a torch module to the canonical graph."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import nn

from clearweight.exporter.graph.canonical import OPSET, canonicalize
from clearweight.exporter.graph.errors import TorchExportError
from clearweight.exporter.graph.fold import fold_batchnorm
from clearweight.exporter.graph.naming import name_after_modules
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.graph.shape import BATCH

# torch.export takes an axis of size 1 for a constant.
_EXAMPLE_BATCH = 2


def to_onnx(
    module: nn.Module,
    example: torch.Tensor,
    *,
    input_name: str = "input",
    output_name: str = "logits",
) -> onnx.ModelProto:
    """Export a classifier as a canonical, self-contained ONNX model.

    The module itself is not changed. Parametrizations (masks, codebooks) are applied, BatchNorm is merged,
    and every parameter keeps its torch name and its bits. Values are named after the modules that return
    them. Nothing is printed.

    Parameters
    ----------
    module : maps (N, ...) to logits (N, C)
    example : float, shape (N, ...); only its shape and type matter

    Raises
    ------
    TorchExportError
        torch.onnx cannot translate the module.
    FoldingError, UnsupportedModelError
        See ``fold_batchnorm`` and ``canonicalize``.
    """
    sample = torch.zeros((_EXAMPLE_BATCH, *example.shape[1:]), dtype=example.dtype)
    plain = without_parametrizations(module)
    with _quiet():
        folded = fold_batchnorm(plain, sample)
        program = _exported(folded, sample, input_name, output_name)
    name_after_modules(program.model)
    names = {name for name, _ in folded.named_parameters()}
    return canonicalize(program.model_proto, parameters=names)


def _exported(
    module: nn.Module, sample: torch.Tensor, input_name: str, output_name: str
) -> torch.onnx.ONNXProgram:
    try:
        program = torch.onnx.export(
            module,
            (sample,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[input_name],
            output_names=[output_name],
            dynamic_shapes=({0: torch.export.Dim(BATCH)},),
            optimize=False,
            verbose=False,
        )
    except Exception as error:
        cause = error.__cause__ or error
        raise TorchExportError(
            f"torch.onnx cannot export {type(module).__name__} on input of shape {tuple(sample.shape)}: "
            f"{str(cause).strip().splitlines()[0]}"
        ) from error
    assert program is not None  # noqa: S101 - dynamo=True without a file always returns the program
    return program


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch.onnx's progress, log lines and deprecation warnings from the user's terminal."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
