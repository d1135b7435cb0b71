"""The demo's task is what its docstrings say."""

import torch

from clearweight.exporter.digits import images, network


def test_images_are_bytes_with_their_classes():
    inputs, labels = images()

    assert (inputs.shape, str(inputs.dtype)) == ((1797, 1, 8, 8), "uint8")
    assert inputs.max() == 16
    assert sorted(set(labels.tolist())) == list(range(10))


def test_the_network_has_the_stated_size():
    model = network()

    assert sum(p.numel() for p in model.parameters()) == 151_306
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
