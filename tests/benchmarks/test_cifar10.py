"""Images from one array of JPEG files: in order, as many as asked for, with their classes."""

import io

import numpy as np
from PIL import Image

from benchmarks.cifar10 import images


def write(path, colours):
    files = []
    for colour in colours:
        buffer = io.BytesIO()
        Image.new("RGB", (32, 32), colour).save(buffer, "JPEG", quality=75)
        files.append(buffer.getvalue())
    np.savez(
        path,
        jpg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        y=np.arange(len(files), dtype=np.uint8),
    )


def test_images_come_in_order_with_channels_first(tmp_path):
    write(tmp_path / "three.npz", [(250, 0, 0), (0, 250, 0), (0, 0, 250)])

    pixels, classes = images(str(tmp_path / "three.npz"))

    assert (pixels.dtype, pixels.shape, classes.tolist()) == (np.uint8, (3, 3, 32, 32), [0, 1, 2])
    assert pixels.mean((2, 3)).argmax(1).tolist() == [0, 1, 2]


def test_the_first_ones_are_taken_where_a_number_is_given(tmp_path):
    write(tmp_path / "three.npz", [(250, 0, 0), (0, 250, 0), (0, 0, 250)])

    pixels, classes = images(str(tmp_path / "three.npz"), count=2)

    assert (len(pixels), classes.tolist()) == (2, [0, 1])
