import numpy as np
import pytest
import torch

from clearweight.exporter.autodiff import Emit, Graph
from clearweight.exporter.explain import NotApplicableError, Unit, build
from clearweight.exporter.explain.receptive_field import receptive_field
from clearweight.exporter.explain.stimulators import stimulators
from clearweight.exporter.graph import session

LAYERS = [
    ("cnn", "conv1"),
    ("cnn", "conv2"),
    ("cnn", "pool2"),
    ("residual", "conv1"),
    ("wave", "conv2"),
    ("plain", "pool2"),
]


def activations(network, layer, x):
    kept = []
    handle = dict(network.module.named_modules())[layer].register_forward_hook(
        lambda *call: kept.append(call[2])
    )
    with torch.no_grad():
        network.module(torch.tensor(x))
    handle.remove()
    return kept[0].numpy()


@pytest.mark.parametrize(("name", "layer"), [*LAYERS[1:], ("mlp", "fc1")])
def test_the_strongest_inputs_are_those_of_a_full_sort(named, name, layer):
    network = named(name)
    x = network.samples(40)
    found = stimulators(network.model, Unit(layer, 2), [x[:7], x[7:30], x[30:]], count=9)
    a = activations(network, layer, x)[:, 2].reshape(40, -1)
    order = sorted(range(40), key=lambda index: (-a[index].max(), index))[:9]

    assert [one.index for one in found] == order
    np.testing.assert_allclose([one.activation for one in found], a[order].max(1), rtol=1e-4, atol=1e-6)
    for one in found:
        np.testing.assert_array_equal(one.input, x[one.index])
        if one.place:
            assert one.place == np.unravel_index(
                a[one.index].argmax(), activations(network, layer, x[:1]).shape[2:]
            )


def test_the_maps_are_those_of_the_unit_and_lie_in_the_crop(named):
    network = named("cnn")
    x = network.samples(20)
    for one in stimulators(network.model, Unit("conv2", 1), [x], count=4):
        graph = build(network.model, "deconvnet", unit=Unit("conv2", 1))
        alone = session(graph.model).run(["explain"], {"input": x[one.index : one.index + 1]})[0][0]
        np.testing.assert_allclose(one.map, alone, rtol=1e-4, atol=1e-6)
        inside = np.zeros_like(one.map, bool)
        inside[(slice(None), *one.crop)] = True
        assert one.map[inside].any()
        assert not one.map[~inside].any()


@pytest.mark.parametrize(("name", "layer"), LAYERS)
def test_a_place_sees_its_receptive_field_and_nothing_else(named, name, layer):
    """Change the input at one place at a time: what moves an activation lies in the crop."""
    network = named(name)
    emit = Emit(Graph(network.model))
    field = receptive_field(emit, "input", layer)
    x = network.samples(1)
    space = network.module.shape[1:]
    spots = list(np.ndindex(*space))
    rows = np.repeat(x, len(spots), 0)
    for row, spot in zip(rows, spots, strict=True):
        row[(slice(None), *spot)] += 7
    moved = np.abs(activations(network, layer, rows) - activations(network, layer, x)).max(1) > 1e-6
    for place in np.ndindex(*moved.shape[1:]):
        reached = np.array([moved[(at, *place)] for at in range(len(spots))]).reshape(space)
        assert not reached[~inside(space, field.at(place))].any()
    middle = tuple(size // 2 for size in moved.shape[1:])
    reached = np.array([moved[(at, *middle)] for at in range(len(spots))]).reshape(space)
    if layer == "conv1":  # no gate can be shut on the way, so the crop is no larger than it must be
        assert reached[field.at(middle)].all()


def inside(space, crop):
    mask = np.zeros(space, bool)
    mask[crop] = True
    return mask


def test_a_shortcut_of_another_stride_still_gives_a_crop_that_holds_everything(named):
    network = named("residual")
    field = receptive_field(Emit(Graph(network.model)), "input", "relu_3")

    assert field.at((1, 1)) == (slice(0, 7), slice(0, 7))


def test_a_method_that_takes_more_than_the_input_is_refused(named):
    for method in ("smoothgrad", "gradcam"):
        with pytest.raises(NotApplicableError, match="try deconvnet"):
            stimulators(named("cnn").model, Unit("conv2", 0), [named("cnn").samples(2)], method=method)


def test_no_data_gives_no_stimulators_and_no_count_an_error(named):
    assert stimulators(named("cnn").model, Unit("conv2", 0), []) == []
    with pytest.raises(ValueError, match="at least 1"):
        stimulators(named("cnn").model, Unit("conv2", 0), [], count=0)
