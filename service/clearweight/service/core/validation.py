"""Requests against metadata: names, types, shapes and sizes, refused before anything is allocated for them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from clearweight.artifact import TensorSpec
from clearweight.artifact.errors import FileNameError
from clearweight.artifact.file_name import check_model_name
from clearweight.service.core.errors import InvalidRequestError, TooLargeError
from clearweight.service.core.types import Limits, Scalar, Tensor


def check_shape(name: str, shape: object, limits: Limits) -> tuple[int, ...]:
    """Check a shape as it stands on the wire: a list of positive integers within the element limit.

    Raises
    ------
    InvalidRequestError
        Not a list, or an entry that is not a positive integer.
    TooLargeError
        The element count is above ``limits.elements``.
    """
    if not isinstance(shape, list | tuple) or not shape:
        raise InvalidRequestError(
            f"Input {name!r} has shape {shape!r}, expected a list of positive integers."
        )
    count = 1
    for size in shape:
        if type(size) is not int or size < 1:
            raise InvalidRequestError(f"Input {name!r} has shape {list(shape)}, expected positive integers.")
        count *= size
    if count > limits.elements:
        raise TooLargeError(f"Input {name!r} claims {count} elements, the limit is {limits.elements}.")
    return tuple(shape)


def check_parameters(parameters: object, where: str) -> Mapping[str, Scalar]:
    """Check that protocol parameters are scalars; keys nobody knows pass.

    Raises
    ------
    InvalidRequestError
        Not an object, or a value that is nested or null.
    """
    if not isinstance(parameters, dict):
        raise InvalidRequestError(
            f"The parameters of {where} are a {type(parameters).__name__}, expected an object."
        )
    for key, value in parameters.items():
        if not isinstance(value, bool | int | float | str):
            raise InvalidRequestError(
                f"Parameter {key!r} of {where} is a {type(value).__name__}, expected a string, number or boolean."
            )
    return parameters


def check_load(name: str, parameters: Mapping[str, object]) -> None:
    """Check a request to load: models come from the repository folder, where their hashes pin them.

    Raises
    ------
    InvalidRequestError
        No name a model can have, or inline configuration (``config``) or files (``file:...``) came along.
    """
    _check_name(name)
    for key in parameters:
        if key == "config" or key.startswith("file:"):
            raise InvalidRequestError(
                f"Parameter {key!r} would bring a model along; models come from the repository folder alone."
            )


def check_unload(name: str, parameters: Mapping[str, object]) -> None:
    """Check a request to unload.

    Raises
    ------
    InvalidRequestError
        No name a model can have, or ``unload_dependents`` is no boolean.
    """
    _check_name(name)
    dependents = parameters.get("unload_dependents", False)  # there are none, so either way is right
    if not isinstance(dependents, bool):
        raise InvalidRequestError(f"Parameter 'unload_dependents' is {dependents!r}, expected a boolean.")


def _check_name(name: str) -> None:
    try:
        check_model_name(name)
    except FileNameError as error:
        raise InvalidRequestError(str(error)) from None


def check_inputs(
    specs: Sequence[TensorSpec], tensors: Iterable[Tensor], *, raw_datatype: str | None = None
) -> dict[str, NDArray[Any]]:
    """Match the tensors of a request with the model's inputs.

    Parameters
    ----------
    raw_datatype : str, optional
        A second type the model takes instead of the declared one (raw inputs, preprocessed by the service).

    Returns
    -------
    dict
        Input name to array, in the model's order; all share one batch size.

    Raises
    ------
    InvalidRequestError
        A missing, doubled or surplus name, another type, another rank or fixed dimension, or batches that differ.
    """
    by_name: dict[str, Tensor] = {}
    for tensor in tensors:
        if tensor.name in by_name:
            raise InvalidRequestError(f"Input {tensor.name!r} is given twice.")
        by_name[tensor.name] = tensor
    feed: dict[str, NDArray[Any]] = {}
    for spec in specs:
        found = by_name.pop(spec.name, None)
        if found is None:
            raise InvalidRequestError(f"Input {spec.name!r} is missing. {_expected(specs)}")
        if found.datatype not in (spec.datatype, raw_datatype):
            raise InvalidRequestError(
                f"Input {spec.name!r} has datatype {found.datatype}, expected {spec.datatype}."
            )
        _check_dimensions(spec, found.values.shape)
        feed[spec.name] = found.values
    if by_name:
        raise InvalidRequestError(f"Unknown input {next(iter(by_name))!r}. {_expected(specs)}")
    if len(feed) > 1 and len({values.shape[0] for values in feed.values()}) > 1:
        sizes = ", ".join(f"{name!r} {values.shape[0]}" for name, values in feed.items())
        raise InvalidRequestError(f"The inputs disagree about the batch size: {sizes}.")
    return feed


def _check_dimensions(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    if len(shape) == len(spec.shape):
        for want, got in zip(spec.shape, shape, strict=True):
            if want not in (-1, got) or got < 1:
                break
        else:
            return
    expected = ", ".join("N" if size == -1 else str(size) for size in spec.shape)
    raise InvalidRequestError(f"Input {spec.name!r} has shape {list(shape)}, expected [{expected}].")


def check_outputs(known: Sequence[str], requested: Sequence[str] | None) -> Sequence[str]:
    """Return the outputs to send, in the order asked.

    Raises
    ------
    InvalidRequestError
        A name the model does not have, or one asked twice.
    """
    if requested is None:
        return known
    for name in requested:
        if name not in known:
            raise InvalidRequestError(f"Unknown output {name!r}. Known outputs: {', '.join(known)}.")
    if len(set(requested)) != len(requested):
        raise InvalidRequestError("An output is requested twice.")
    return requested


def _expected(specs: Sequence[TensorSpec]) -> str:
    return f"Expected inputs: {', '.join(spec.name for spec in specs)}."
