import numpy as np
import pytest
import torch

from clearweight.exporter.explain import EXPLAINERS, NotApplicableError, Unit, build
from clearweight.exporter.graph import session
from tests.exporter.explain.perturbing import inputs_of

UNITS = [
    ("cnn", "conv2", 3),
    ("cnn", "pool1", 0),
    ("residual", "conv1", 5),
    ("wave", "conv2", 2),
    ("mlp", "fc1", 4),
]


def explained(graph, x, **extra):
    made = {name: value for name, value in inputs_of(graph, x, [0]).items() if name != "target"}
    return session(graph.model).run(["explain"], {**made, **extra})[0]


def slow_gradient(network, layer, channel, x):
    """The gradient of a channel's largest activation, one row at a time."""
    kept = []
    handle = dict(network.module.named_modules())[layer].register_forward_hook(
        lambda *call: kept.append(call[2])
    )
    maps = []
    for row in x:
        kept.clear()
        given = torch.tensor(row[None], requires_grad=True)
        network.module(given)
        (found,) = torch.autograd.grad(kept[0][0, channel].max(), given)
        maps.append(found[0].numpy())
    handle.remove()
    return np.stack(maps)


@pytest.mark.parametrize(("name", "layer", "channel"), UNITS)
def test_the_gradient_of_a_unit_is_that_of_its_strongest_place(named, name, layer, channel):
    network = named(name)
    x = network.samples(4)
    graph = build(network.model, "gradient", unit=Unit(layer, channel))

    np.testing.assert_allclose(
        explained(graph, x), slow_gradient(network, layer, channel, x), rtol=1e-4, atol=1e-6
    )
    assert [entry.name for entry in graph.model.graph.input] == ["input"]
    assert graph.unit == Unit(layer, channel)


def test_a_unit_of_the_first_layer_is_projected_by_its_own_kernel(named):
    network = named("plain")
    x = network.samples(1)
    found = explained(build(network.model, "deconvnet", unit=Unit("conv1", 2)), x)[0, 0]
    places = network.module.conv1(torch.tensor(x))[0, 2].detach().numpy()
    at = np.unravel_index(places.argmax(), places.shape)
    expected = np.zeros_like(found)
    expected[at[0] : at[0] + 3, at[1] : at[1] + 3] = network.module.conv1.weight[2, 0].detach()

    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("method", [m for m in EXPLAINERS if EXPLAINERS[m].resolution == "input"])
def test_every_input_level_method_explains_a_unit(named, method):
    network = named("plain")
    graph = build(network.model, method, unit=Unit("relu2", 1))
    found = explained(graph, network.samples(2))

    assert np.isfinite(found).all()
    assert found.any()


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (Unit("conv2", 6), r"'conv2' has channels 0 to 5, but 6"),
        (Unit("conv2", -1), "but -1"),
        (Unit("nowhere", 0), r"'nowhere'.*conv2"),
    ],
)
def test_a_unit_that_is_none_is_refused(named, unit, message):
    with pytest.raises(NotApplicableError, match=message):
        build(named("plain").model, "gradient", unit=unit)


def test_a_contrast_is_the_difference_of_two_maps(named):
    network = named("plain")
    x = network.samples(3)
    weights = np.zeros((3, 3), np.float32)
    weights[:, 0], weights[:, 2] = 1, -1
    for method in ("gradient", "input_x_gradient", "integrated_gradients", "smoothgrad"):
        graph = build(network.model, method, contrast=True)
        single = build(network.model, method)
        assert graph.model.graph.input[1].name == "cotangent"
        maps = [session(single.model).run(["explain"], inputs_of(single, x, [c] * 3))[0] for c in (0, 2)]
        np.testing.assert_allclose(
            explained(graph, x, cotangent=weights), maps[0] - maps[1], rtol=1e-3, atol=1e-6
        )


def test_a_unit_and_a_contrast_together_are_refused(named):
    with pytest.raises(NotApplicableError, match="one of them"):
        build(named("plain").model, "gradient", unit=Unit("conv2", 0), contrast=True)
