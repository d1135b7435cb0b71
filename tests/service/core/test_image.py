"""Pictures as inputs: every form people send, and every way one can be hostile."""

import io

import numpy as np
import pytest
from PIL import Image

from clearweight.service import ServiceError
from clearweight.service.core.errors import InvalidRequestError, TooLargeError
from clearweight.service.core.image import decode_images, is_image

RNG = np.random.default_rng(0)


def file(pixels, kind="PNG", mode=None, **settings) -> bytes:
    out, image = io.BytesIO(), Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(out, kind, **settings)
    return out.getvalue()


def decode(data, shape, resize=None, pixels=10_000):
    return decode_images([data], shape, resize=resize, pixels=pixels)[0]


GREY = RNG.integers(0, 256, (6, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 3), np.uint8)


def test_a_grey_and_a_colour_png_are_their_pixels():
    assert np.array_equal(decode(file(GREY), (1, 6, 5)), GREY[None])
    assert np.array_equal(decode(file(COLOUR), (3, 6, 5)), COLOUR.transpose(2, 0, 1))
    assert np.array_equal(decode(file(COLOUR), (3, -1, -1)), COLOUR.transpose(2, 0, 1))


def test_colour_becomes_grey_by_rec_601_luma():
    found = decode(file(COLOUR), (1, 6, 5))[0].astype(float)

    assert np.abs(found - COLOUR @ [0.299, 0.587, 0.114]).max() <= 1.0


def test_grey_becomes_colour_by_repetition():
    assert np.array_equal(decode(file(GREY), (3, 6, 5)), np.stack([GREY] * 3))


def test_jpeg_is_read():
    smooth = np.tile(np.linspace(0, 255, 16).astype(np.uint8), (16, 1))

    assert np.abs(decode(file(smooth, "JPEG", quality=95), (1, 16, 16)).astype(int) - smooth).max() < 8


def test_transparency_lies_on_black():
    clear = np.dstack([COLOUR, np.full((6, 5), 0, np.uint8)])
    clear[0, 0, 3] = 255
    found = decode(file(clear), (3, 6, 5))

    assert np.array_equal(found[:, 0, 0], COLOUR[0, 0])
    assert found.sum() == found[:, 0, 0].sum()


def test_a_palette_is_resolved():
    assert decode(file(COLOUR, mode="P"), (3, 6, 5)).shape == (3, 6, 5)


def test_the_orientation_a_camera_notes_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter to the right
    wide = np.zeros((8, 16), np.uint8)
    wide[:, :8] = 255

    found = decode(file(wide, "JPEG", exif=exif, quality=95), (1, 16, 8))

    assert found[0, :6].min() > 200
    assert found[0, 10:].max() < 50


def test_another_size_is_refused_unless_asked_for():
    wide = np.zeros((8, 16), np.uint8)
    wide[:, 8:] = 200

    with pytest.raises(InvalidRequestError, match="16 x 8 pixels, expected 4 x 4"):
        decode(file(wide), (1, 4, 4))
    stretched = decode(file(wide), (1, 4, 4), "stretch")[0]
    assert stretched[0, 0] == 0
    assert stretched[0, 3] == 200
    # The middle eight of sixteen columns: half dark, half light, as before.
    assert decode(file(wide), (1, 4, 4), "crop")[0][0].tolist()[::3] == [0, 200]
    narrow = np.zeros((8, 16), np.uint8)
    narrow[:, :4] = narrow[:, 12:] = 200
    assert (
        decode(file(narrow), (1, 4, 4), "crop").max() < 30
    )  # a pixel's filter reaches a little beyond the edge
    assert decode(file(narrow), (1, 4, 4), "stretch").max() > 150


def bomb(side: int) -> bytes:
    """A small file that states very many pixels."""
    return file(np.zeros((side, side), np.uint8))


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    from PIL.PngImagePlugin import PngImageFile

    def decoded(self):
        raise AssertionError("It was decoded.")

    data = bomb(3000)
    assert len(data) < 20_000
    monkeypatch.setattr(PngImageFile, "load", decoded)
    with pytest.raises(TooLargeError, match="9000000 pixels, the limit of one request is 8000000"):
        decode(data, (1, 4, 4), "stretch", pixels=8_000_000)


def test_the_limit_is_for_all_pictures_together():
    two = [file(GREY)] * 2

    with pytest.raises(TooLargeError, match="60 pixels"):
        decode_images(two, (1, 6, 5), resize=None, pixels=59)
    assert decode_images(two, (1, 6, 5), resize=None, pixels=60).shape == (2, 1, 6, 5)


def test_pictures_of_one_batch_share_a_size():
    with pytest.raises(InvalidRequestError, match="differ in size"):
        decode_images([file(GREY), file(GREY[:5])], (1, -1, -1), resize=None, pixels=100)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_every_cut_and_flipped_file_is_refused_or_read_and_nothing_else(kind):
    whole = file(RNG.integers(0, 256, (16, 16), np.uint8), kind)
    assert is_image(whole)
    pixels = decode(whole, (1, 16, 16))
    for cut in range(0, len(whole) - 20, 7):  # behind that, all pixels are there
        with pytest.raises(ServiceError):
            decode(whole[:cut], (1, 16, 16))
    assert np.array_equal(decode(whole, (1, 16, 16)), pixels)
    for at in range(0, len(whole), 5):
        flipped = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        try:
            assert decode(flipped, (1, 16, 16)).shape == (1, 16, 16)
        except ServiceError as error:
            assert "mage" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("data", "shape", "text"),
    [
        (b"GIF89a", (1, 4, 4), "neither PNG nor JPEG"),
        (file(np.zeros((4, 4), np.uint16)), (1, 4, 4), "more than eight bits"),
        (file(GREY), (2, 6, 5), "the model's input has 2"),
    ],
)
def test_what_is_refused(data, shape, text):
    with pytest.raises(InvalidRequestError, match=text):
        decode(data, shape)
