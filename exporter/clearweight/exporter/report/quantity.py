"""Numbers as people read them."""

MISSING = "n/a"


def grouped(count: int) -> str:
    """Write a count in groups of three digits, 1 066 440, with thin spaces that do not break."""
    return f"{count:,}".replace(",", "\u202f")


def in_bytes(count: int | None) -> str:
    """Write a size exactly, in bytes: the ledger must add up."""
    return MISSING if count is None else f"{grouped(count)}\u202fB"


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a fraction as a percentage."""
    return MISSING if fraction is None else f"{100 * fraction:.{digits}f}\u202f%"


def decimal(value: float | None, digits: int = 3) -> str:
    """Write a number with fixed digits and a real minus sign."""
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", "\u2212")


def times(ratio: float | None) -> str:
    """Write a ratio, 41.0x."""
    return MISSING if ratio is None else f"{ratio:.1f}×"


def smaller(ratio: float | None) -> str:
    """Say by how much something is smaller than the reference, or larger: graphs outweigh a tiny network."""
    if ratio is None:
        return MISSING
    return f"{times(ratio)} smaller" if ratio >= 1.0 else f"{times(1.0 / ratio)} larger"


def shape(sizes: tuple[int, ...]) -> str:
    """Write a shape, 20 x 1 x 5 x 5."""
    return " × ".join(str(size) for size in sizes) or "scalar"
