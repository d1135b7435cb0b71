"""Bounded reading: every byte of ``weights.cwt`` is taken through a cursor that knows where it must stop."""

from typing import BinaryIO

from clearweight.artifact.errors import TensorFieldError, TruncatedError

MAX_VARINT = 9  # bytes; 63 bits, so that every number fits a signed 64-bit integer


def varint_bytes(number: int) -> bytes:
    """Write an unsigned integer, seven bits a byte, low bits first (SPEC.md section 2.1).

    Examples
    --------
    >>> varint_bytes(300).hex()
    'ac02'
    """
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


class ByteCursor:
    """A reading position inside the bytes ``[start, end)`` of a file.

    Parameters
    ----------
    file : binary file that can seek
    start, end : int
        The part this cursor may read.
    what : str
        Name of the part, for messages.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, what: str) -> None:
        self._file = file
        self.position = start
        self.end = end
        self.what = what

    @property
    def remaining(self) -> int:
        """Bytes left."""
        return self.end - self.position

    def peek(self, count: int) -> bytes:
        """Return up to ``count`` bytes without moving."""
        self._file.seek(self.position)
        return self._file.read(min(count, self.remaining))

    def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes and move behind them.

        Raises
        ------
        TruncatedError
            Fewer are left; nothing was allocated.
        """
        if count > self.remaining:
            raise TruncatedError(
                f"{self.what} needs {count} bytes at {self.position} but ends at {self.end}: truncated."
            )
        data = self.peek(count)
        if len(data) < count:
            raise TruncatedError(
                f"{self.what} ends at {self.position + len(data)}: the file shrank while it was read."
            )
        self.position += count
        return data

    def skip(self, count: int) -> None:
        """Move behind ``count`` bytes without reading them.

        Raises
        ------
        TruncatedError
            Fewer are left.
        """
        if count > self.remaining:
            raise TruncatedError(
                f"{self.what} states {count} bytes at {self.position} but ends at {self.end}: truncated."
            )
        self.position += count

    def part(self, count: int, what: str) -> "ByteCursor":
        """Return a cursor over the next ``count`` bytes and move behind them.

        Raises
        ------
        TruncatedError
            Fewer are left.
        """
        start = self.position
        self.skip(count)
        return ByteCursor(self._file, start, self.position, what)

    def byte(self) -> int:
        """Take one byte as a number."""
        return self.take(1)[0]

    def varint(self) -> int:
        """Take an unsigned integer in its shortest form.

        Raises
        ------
        TruncatedError
            The last byte still announces another.
        TensorFieldError
            More than 63 bits, or a needless leading zero.
        """
        number = 0
        for place in range(MAX_VARINT):
            byte = self.byte()
            number |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                if byte == 0 and place > 0:
                    break
                return number
        raise TensorFieldError(
            f"{self.what} holds a number before {self.position} that is not in its shortest form."
        )
