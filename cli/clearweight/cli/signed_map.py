"""Attribution maps in a terminal: a shade for the size of a value, a sign and a colour for its direction."""

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

# From nothing to the largest magnitude of the map; two characters make one square pixel.
SHADES = " ░▒▓█"
POSITIVE, NEGATIVE = "red", "blue"


def level(magnitude: float) -> int:
    """Return which of the shades stands for a magnitude in [0, 1]: the nearest, and the darker of two.

    >>> [level(m) for m in (0.0, 0.1, 0.2, 0.5, 1.0)]
    [0, 0, 1, 2, 4]
    """
    return int(magnitude * (len(SHADES) - 1) + 0.5)


def image_text(image: NDArray[np.float32]) -> Text:
    """Draw an image, (h, w); its largest value is the fullest shade."""
    scale = float(image.max()) or 1.0
    rows = ("".join(SHADES[level(float(v) / scale)] * 2 for v in row) for row in image)
    return Text("\n".join(rows))


def map_text(values: NDArray[np.float32]) -> Text:
    """Draw a signed map, (h, w); each pixel is a shade and ``+`` or ``-``, red or blue."""
    scale = float(np.abs(values).max()) or 1.0
    text = Text()
    for number, row in enumerate(values):
        if number:
            text.append("\n")
        for value in row:
            shade = SHADES[level(abs(float(value)) / scale)]
            if shade == " ":
                text.append("  ")
            else:
                text.append(shade + ("+" if value > 0 else "-"), POSITIVE if value > 0 else NEGATIVE)
    return text


def side_by_side(**pictures: Text) -> Table:
    """Lay titled pictures next to each other."""
    table = Table(box=None, padding=(0, 3, 0, 0))
    for title in pictures:
        table.add_column(title.replace("_", " "), no_wrap=True)
    table.add_row(*pictures.values())
    return table
