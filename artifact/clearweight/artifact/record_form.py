"""Frozen records to JSON values and back, refusing whatever a record does not state.

The types a record may use are few: str, bool, int, float, another record, ``X | None``,
``tuple[X, ...]`` and ``dict[str, X]``. Nothing is converted: an integer is not a float, "1" is not 1.

A field that joined a record later is ``OPTIONAL`` and None by default: left out where it is None, so that what was
written before keeps its one spelling.
"""

import math
import types
import typing
from dataclasses import Field, fields, is_dataclass
from typing import Any, TypeVar

from clearweight.artifact.errors import FieldTypeError, FieldValueError, MissingFieldError, UnknownFieldError

Record = TypeVar("Record")
OPTIONAL = types.MappingProxyType({"optional": True})
"""Metadata of such a field."""
MAX_INTEGER = 2**63 - 1  # what every JSON reader of the world can be asked to hold in 64 bits


def to_form(value: Any) -> Any:
    """Turn a record into dicts, lists and numbers."""
    if is_dataclass(value):
        stated = {entry.name: (entry, getattr(value, entry.name)) for entry in fields(value)}
        return {
            name: to_form(own)
            for name, (entry, own) in stated.items()
            if not (_optional(entry) and own is None)
        }
    if isinstance(value, dict):
        return {key: to_form(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_form(item) for item in value]
    return value


def from_form(record: type[Record], form: Any, where: str) -> Record:
    """Build a record from dicts, lists and numbers.

    Parameters
    ----------
    record : type
        A dataclass of the types named above.
    form : JSON value
    where : str
        Path to this value, for messages.

    Raises
    ------
    UnknownFieldError, MissingFieldError
        The keys are not exactly the record's fields.
    FieldTypeError
        A value of another JSON type.
    FieldValueError
        A number that is not finite or beyond 64 bits.
    """
    _demand(isinstance(form, dict), where, "an object", form)
    hints = typing.get_type_hints(record)
    for key in form:
        if key not in hints:
            raise UnknownFieldError(
                f"Unknown field {key!r} in {where}. Known fields: {', '.join(sorted(hints))}."
            )
    optional = {entry.name for entry in fields(typing.cast("type[Any]", record)) if _optional(entry)}
    for name in hints:
        if name not in form and name not in optional:
            raise MissingFieldError(f"Field {name!r} is missing in {where}.")
    for name in optional & set(form):
        _demand(form[name] is not None, f"{where}.{name}", "a value, or no such field", form[name])
    return record(**{name: _read(hints[name], value, f"{where}.{name}") for name, value in form.items()})


def _optional(entry: "Field[Any]") -> bool:
    return bool(entry.metadata.get("optional"))


def _read(hint: Any, form: Any, where: str) -> Any:
    if is_dataclass(hint):
        return from_form(typing.cast("type[Any]", hint), form, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if form is None else _read(arguments[0], form, where)
    if origin is tuple:
        _demand(isinstance(form, list), where, "a list", form)
        return tuple(_read(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(form))
    if origin is dict:
        _demand(isinstance(form, dict), where, "an object", form)
        return {key: _read(arguments[1], item, f"{where}.{key}") for key, item in form.items()}
    return _read_scalar(hint, form, where)


def _read_scalar(hint: Any, form: Any, where: str) -> Any:
    names = {str: "a string", bool: "true or false", int: "an integer", float: "a number with a fraction"}
    _demand(type(form) is hint, where, names[hint], form)
    if hint is int and abs(form) > MAX_INTEGER:
        raise FieldValueError(f"Field {where} is {form}, beyond 64 bits.")
    if hint is float and not math.isfinite(form):
        raise FieldValueError(f"Field {where} is {form}, expected a finite number.")
    return form


def _demand(holds: bool, where: str, expected: str, form: Any) -> None:
    if not holds:
        raise FieldTypeError(
            f"Field {where} is {type(form).__name__} {str(form)[:40]!r}, expected {expected}."
        )
