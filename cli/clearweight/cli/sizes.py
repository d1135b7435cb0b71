"""The sizes of an export, as its summary tells them."""

from typing import Any


def compared(ratio: float) -> str:
    """Say how much smaller something is than the reference, or how much larger: graphs outweigh a tiny network.

    >>> compared(12.04), compared(0.5)
    ('12.0x smaller', '2.0x larger')
    """
    return f"{ratio:.1f}x smaller" if ratio >= 1.0 else f"{1.0 / ratio:.1f}x larger"


def size_lines(facts: dict[str, Any]) -> list[str]:
    """Write the reference's bytes, the packed weights' and the device's."""
    return [
        f"  reference   {facts['reference_bytes']:>11,} B",
        f"  packed      {facts['packed_bytes']:>11,} B  {compared(facts['ratio'])}; weights.cwt alone",
        f"  device      {facts['device_bytes']:>11,} B  {compared(facts['device_ratio'])}; all that a device needs",
    ]
