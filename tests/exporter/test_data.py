"""Readers of labelled data, each against bytes written by hand."""

import gzip
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from clearweight.artifact.preprocessing import RESIZE
from clearweight.exporter import DataError
from clearweight.exporter.data import (
    IDX_TYPES,
    from_callable,
    labelled,
    read_idx,
    read_image_folder,
    read_npz,
)
from clearweight.service.core.image import decode_images


def idx_bytes(array, code):
    head = struct.pack(">HBB", 0, code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(IDX_TYPES[code]).tobytes()


def test_idx_by_its_bytes(tmp_path):
    path = tmp_path / "labels.idx1-ubyte"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 255]))

    assert read_idx(path).tolist() == [7, 0, 255]


@pytest.mark.parametrize("code", sorted(IDX_TYPES))
@pytest.mark.parametrize("ending", ["idx", "gz"])
def test_idx_of_every_type_comes_back_in_native_order(tmp_path, code, ending):
    array = np.arange(12).reshape(3, 2, 2)
    data = idx_bytes(array, code)
    path = tmp_path / f"x.{ending}"
    path.write_bytes(gzip.compress(data) if ending == "gz" else data)

    found = read_idx(path)

    assert np.array_equal(found, array)
    assert found.dtype.isnative


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "expected an IDX header"),
        (b"\x00\x00\x07\x01", "begins with 00000701"),
        (b"\x01\x00\x08\x01", "begins with 01000801"),
        (b"\x00\x00\x08\x03\x00\x00", "expected a header of 16"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03ab", "holds 10 bytes, expected 11"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x03abcd", "holds 12 bytes, expected 11"),
    ],
)
def test_a_malformed_idx_is_named(tmp_path, data, match):
    path = tmp_path / "x.idx"
    path.write_bytes(data)

    with pytest.raises(DataError, match=match):
        read_idx(path)


def test_npz_names_are_checked(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, images=np.zeros(2), y=np.zeros(2))

    with pytest.raises(DataError, match=r"no array 'x'\. It has: images, y"):
        read_npz(path, "x", "y")


def test_npz_never_unpickles(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=np.array([{}], dtype=object), y=np.zeros(1))

    with pytest.raises(DataError, match="allow_pickle"):
        read_npz(path, "x", "y")


def test_what_is_no_npz_is_named(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut")
    np.save(tmp_path / "b.npy", np.zeros(2))
    (tmp_path / "c.gz").write_bytes(b"\x1f\x8b cut")

    for name, read in (("a.npz", read_npz), ("b.npy", read_npz), ("c.gz", lambda path, *_: read_idx(path))):
        with pytest.raises(DataError, match=rf"{name}.*cannot be read"):
            read(tmp_path / name, "x", "y")


def image_folder(tmp_path, mode="L", size=(4, 3)):
    for number, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new(mode, size, 10 * number + i if mode == "L" else (10 * number + i, 0, 0)).save(
                tmp_path / name / f"{i}.png"
            )
    return tmp_path


def test_an_image_folder_gives_classes_in_the_order_of_their_names(tmp_path):
    images, labels = read_image_folder(image_folder(tmp_path), (1, 3, 4))

    assert images.shape == (4, 1, 3, 4)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 10, 11]
    assert labels.tolist() == [0, 0, 1, 1]


def test_colour_images_have_their_channels_first(tmp_path):
    images, _ = read_image_folder(image_folder(tmp_path, "RGB"), (3, 3, 4))

    assert images.shape == (4, 3, 3, 4)
    assert images[3].max(axis=(1, 2)).tolist() == [11, 0, 0]


def test_images_of_another_size_are_refused_unless_it_is_said_how(tmp_path):
    folder = image_folder(tmp_path, size=(9, 9))

    with pytest.raises(DataError, match=r"0\.png' is 9 x 9 pixels, expected 4 x 3; .*\(stretch or crop\)"):
        read_image_folder(folder, (1, 3, 4))
    for resize in RESIZE:
        assert read_image_folder(folder, (1, 3, 4), resize)[0].shape == (4, 1, 3, 4)


@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_become_what_the_service_makes_of_them(tmp_path, channels, resize):
    (tmp_path / "cat").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (13, 17, 4)).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6  # a camera held sideways
    Image.fromarray(noise).save(tmp_path / "cat" / "clear.png")
    Image.fromarray(noise[..., :3]).save(tmp_path / "cat" / "photo.jpg", exif=turned)
    Image.fromarray(noise[..., 0]).save(tmp_path / "cat" / "grey.png")
    files = [path.read_bytes() for path in sorted((tmp_path / "cat").iterdir())]

    found, _ = read_image_folder(tmp_path, (channels, 5, 8), resize)

    told = decode_images(files, (channels, 5, 8), resize=resize, pixels=10_000)
    assert np.array_equal(found, told)


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 4)])
def test_an_image_folder_needs_an_image_shape(tmp_path, shape):
    with pytest.raises(DataError, match="needs an input of shape"):
        read_image_folder(tmp_path, shape)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match="holds no images"):
        read_image_folder(tmp_path, (1, 3, 4))


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"not a picture")

    with pytest.raises(DataError, match=r"a\.png.* is not an image"):
        read_image_folder(tmp_path, (1, 3, 4))


@pytest.mark.parametrize(
    ("inputs", "labels", "match"),
    [
        (np.zeros((3, 4), np.uint8), np.zeros(2, int), "3 inputs but 2 labels"),
        (np.zeros((2, 4), int), np.zeros(2, int), "expected uint8 or floating point"),
        (np.full((2, 4), np.nan), np.zeros(2, int), "not finite"),
        (np.zeros((2, 4)), np.zeros(2), "expected class indices"),
        (np.zeros((2, 4)), np.zeros((2, 1), int), "expected class indices"),
        (np.zeros((2, 4)), np.array([0, -1]), "expected class indices"),
        (np.zeros((2, 5)), np.zeros(2, int), r"one input has shape \(5,\), expected \(1, 2, 2\)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(inputs, labels, match):
    with pytest.raises(DataError, match=match):
        labelled(inputs, labels, (1, 2, 2), "here")


def test_raw_bytes_stay_bytes_and_floats_become_float32():
    labels = np.array([1, 0], np.uint8)

    assert labelled(np.zeros((2, 4), np.uint8), labels, (1, 2, 2), "here").inputs.dtype == np.uint8
    found = labelled(np.zeros((2, 2, 2)), labels, (1, 2, 2), "here")
    assert found.inputs.dtype == np.float32
    assert found.inputs.shape == (2, 1, 2, 2)
    assert found.labels.dtype == np.int64


def test_a_callable_must_return_a_pair(tmp_path, monkeypatch):
    (tmp_path / "user_pair.py").write_text("def one(): return 1\ndef two(n): return [[0.0]] * n, [0] * n\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    with pytest.raises(DataError, match=r"returned int, expected a tuple \(inputs, labels\)"):
        from_callable("user_pair:one", (1,), {})
    assert len(from_callable("user_pair:two", (1,), {"n": 3})) == 3
