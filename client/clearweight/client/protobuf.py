"""Just enough of the protocol buffers' wire format to call a service without generated code.

Two generated copies of package ``inference`` cannot live in one process; a client that brings none gets along with
every other. Fields that are not in a table, or stand there with another wire type, are passed over.
Source: protobuf.dev, "Encoding".
"""

import struct
from collections.abc import Iterator
from typing import Any, TypeAlias

Fields: TypeAlias = dict[int, tuple[str, Any]]
"""Field number to name and kind: text, bytes, bool, int, double, or the ``Fields`` of a message; ``[kind]`` repeats."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Write an integer; negative ones as their 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number: int, value: bool | float | str | bytes) -> bytes:
    """Write one field; a message is its bytes."""
    if isinstance(value, float):
        return varint(number << 3 | _FIXED64) + struct.pack("<d", value)
    if isinstance(value, int):
        return varint(number << 3 | _VARINT) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | _LENGTH) + varint(len(data)) + data


def parse(fields: Fields, data: bytes | memoryview) -> dict[str, Any]:
    """Read a message: a field that is absent is None, or an empty list where it repeats.

    Raises
    ------
    ValueError
        The bytes end within a field.
    """
    found: dict[str, Any] = {name: [] if isinstance(kind, list) else None for name, kind in fields.values()}
    for number, wire, value in _walk(memoryview(data)):
        if number not in fields:
            continue
        name, kind = fields[number]
        inner = kind[0] if isinstance(kind, list) else kind
        expected = _WIRE.get(inner, _LENGTH) if isinstance(inner, str) else _LENGTH
        if isinstance(kind, list) and wire == _LENGTH and expected == _VARINT:  # packed
            found[name] += [_value(inner, item) for item in _varints(value)]
        elif wire == expected and isinstance(kind, list):
            found[name].append(_value(inner, value))
        elif wire == expected:
            found[name] = _value(inner, value)
    return found


_WIRE = {"bool": _VARINT, "int": _VARINT, "double": _FIXED64}


def _value(kind: Any, value: Any) -> Any:
    if isinstance(kind, dict):
        return parse(kind, value)
    if kind == "text":
        return bytes(value).decode()
    if kind == "double":
        return struct.unpack("<d", value)[0]
    if kind == "bool":
        return bool(value)
    return value - (1 << 64) if kind == "int" and value >> 63 else value


def _walk(view: memoryview) -> Iterator[tuple[int, int, Any]]:
    at = 0
    while at < len(view):
        key, at = _varint(view, at)
        wire = key & 7
        if wire == _VARINT:
            value, at = _varint(view, at)
            yield key >> 3, wire, value
            continue
        length = {_FIXED64: 8, _FIXED32: 4}.get(wire)
        if length is None:
            if wire != _LENGTH:
                raise ValueError(f"Wire type {wire} is not known.")
            length, at = _varint(view, at)
        if at + length > len(view):
            raise ValueError("The message ends within a field.")
        yield key >> 3, wire, view[at : at + length]
        at += length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 70:
        value |= (view[at] & 0x7F) << shift
        at += 1
        if view[at - 1] < 0x80:
            return value, at
        shift += 7
    raise ValueError("The message ends within a number.")


def _varints(view: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(view):
        value, at = _varint(view, at)
        found.append(value)
    return found
