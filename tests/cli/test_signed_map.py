"""Maps as text: size by shade, direction by sign and colour."""

import numpy as np
import pytest

from clearweight.cli.signed_map import NEGATIVE, POSITIVE, SHADES, image_text, level, map_text, side_by_side


@pytest.mark.parametrize("magnitude", np.linspace(0, 1, 21).tolist())
def test_the_shade_is_the_nearest_one(magnitude):
    steps = [i / (len(SHADES) - 1) for i in range(len(SHADES))]
    distance = [abs(s - magnitude) for s in steps]

    assert distance[level(magnitude)] == pytest.approx(min(distance))


def test_an_image_scales_to_its_largest_value():
    assert image_text(np.array([[0, 8], [4, 2]], np.float32)).plain == "  ██\n▒▒░░"


def test_a_map_shows_sign_and_size():
    text = map_text(np.array([[-1.0, 0.5], [0.0, 0.26]], np.float32))

    assert text.plain == "█-▒+\n  ░+"
    assert [span.style for span in text.spans] == [NEGATIVE, POSITIVE, POSITIVE]


def test_an_empty_map_is_blank():
    assert map_text(np.zeros((2, 2), np.float32)).plain == "    \n    "
    assert image_text(np.zeros((1, 2), np.float32)).plain == "    "


def test_pictures_stand_under_their_titles():
    table = side_by_side(
        image=image_text(np.ones((1, 1), np.float32)), of_all=map_text(np.ones((1, 1), np.float32))
    )

    assert [column.header for column in table.columns] == ["image", "of all"]
