"""JSON with exactly one spelling per value, so that a digest over its bytes means something.

SPEC.md section 4.1. ASCII only, keys sorted by code point, no insignificant space, the shortest
decimal that restores a float. Reading demands the same spelling back.
"""

import json
from typing import Any, NoReturn

from clearweight.artifact.errors import ManifestSyntaxError, NonCanonicalError


def dumps(value: Any) -> bytes:
    r"""Spell a JSON value canonically.

    Raises
    ------
    ManifestSyntaxError
        NaN, an infinity, or a type JSON does not have.

    Examples
    --------
    >>> dumps({"b": [1, 2.0], "a": "ü"})
    b'{"a":"\\u00fc","b":[1,2.0]}'
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise ManifestSyntaxError(f"A value cannot be written as JSON ({error}).") from error
    return text.encode("ascii")


def loads(data: bytes, where: str) -> Any:
    """Parse a JSON value and demand that it was spelt canonically.

    Raises
    ------
    ManifestSyntaxError
        Not JSON, NaN or an infinity, a repeated key, too deep a nesting or too long a number.
    NonCanonicalError
        Another spelling of the same value.
    """
    try:
        value = json.loads(
            data.decode("ascii"), parse_constant=_refuse_constant, object_pairs_hook=_unique_keys
        )
    except UnicodeDecodeError as error:
        raise ManifestSyntaxError(
            f"{where} holds a byte outside ASCII at {error.start}; expected escapes."
        ) from error
    except RecursionError as error:
        raise ManifestSyntaxError(f"{where} is nested too deeply.") from error
    except ValueError as error:
        if isinstance(error, ManifestSyntaxError):
            raise
        raise ManifestSyntaxError(f"{where} is not JSON ({error}).") from error
    again = dumps(value)
    if again != data:
        shorter = min(len(again), len(data))
        at = next((place for place in range(shorter) if again[place] != data[place]), shorter)
        raise NonCanonicalError(
            f"{where} is JSON in another spelling at byte {at}: expected sorted keys and no spaces."
        )
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ManifestSyntaxError(f"JSON holds {name}, which is no JSON number.")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique: dict[str, Any] = {}
    for key, value in pairs:
        if key in unique:
            raise ManifestSyntaxError(f"JSON holds the key {key!r} twice.")
        unique[key] = value
    return unique
