"""ReciproCAM against torch, one place of the feature map at a time."""

import numpy as np
import pytest
import torch

from clearweight.exporter.explain import NotApplicableError, build
from clearweight.exporter.graph import int8_onnx
from tests.exporter.explain.perturbing import inputs_of, predict, recurrent, run


def slow_reciprocam(network, layer, x, classes, *, gaussian):
    part, maps = dict(network.module.named_modules())[layer], []
    for row, c in zip(torch.tensor(x), classes, strict=True):
        kept = []
        handle = part.register_forward_hook(lambda _part, _inputs, output, kept=kept: kept.append(output))
        network.module(row[None])
        handle.remove()
        space = kept[0].shape[2:]
        found = torch.zeros(space)
        for place in np.ndindex(*space):
            mask = torch.zeros(space)
            mask[place] = 1
            if gaussian:
                for axis in range(len(space)):
                    mask = 0.5 * mask + 0.25 * _moved(mask, 1, axis) + 0.25 * _moved(mask, -1, axis)
            handle = part.register_forward_hook(lambda _part, _inputs, output, mask=mask: output * mask)
            found[place] = network.module(row[None])[0, c]
            handle.remove()
        maps.append(found[None].numpy())
    return np.stack(maps)


def _moved(mask, step, axis):
    rolled = torch.roll(mask, step, axis)
    rolled.select(axis, 0 if step > 0 else -1).zero_()
    return rolled


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize(
    ("name", "layer"), [("cnn", "pool2"), ("cnn", "conv2"), ("residual", "bn"), ("wave", "conv2")]
)
def test_the_map_is_what_the_head_says_to_one_place(named, name, layer, gaussian):
    network = named(name)
    x = network.samples(2)
    value = "stem" if layer == "bn" else layer
    graph = build(network.model, "reciprocam", layer=value, settings={"gaussian": float(gaussian)})
    got = run(graph, inputs_of(graph, x, [-1, 1]))
    classes = [got["logits"][0].argmax(), 1]

    np.testing.assert_allclose(
        got["explain"], slow_reciprocam(network, layer, x, classes, gaussian=gaussian), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(got["logits"], predict(network.model, x))
    assert graph.layer == value
    assert graph.steps == np.prod(got["explain"].shape[1:])


def test_a_feature_map_that_others_pass_by_is_refused(named):
    with pytest.raises(NotApplicableError, match="other than through 'conv1'"):
        build(named("residual").model, "reciprocam", layer="conv1")


def test_the_last_feature_map_through_which_everything_passes_is_the_default(named):
    assert build(named("residual").model, "reciprocam").layer == "relu_3"
    assert build(named("cnn").model, "reciprocam").layer == "pool2"


@pytest.mark.parametrize("name", ["mlp", "affine"])
def test_it_needs_a_feature_map(named, name):
    with pytest.raises(NotApplicableError, match="needs a feature map"):
        build(named(name).model, "reciprocam")


def test_a_recurrent_network_has_none():
    with pytest.raises(NotApplicableError, match="needs a feature map"):
        build(recurrent(torch.nn.GRU, dynamo=False), "reciprocam")


def test_an_unknown_layer_is_named_beside_those_there_are(named):
    with pytest.raises(NotApplicableError, match=r"'conv9' is no feature map.*Known: conv1.*pool2"):
        build(named("cnn").model, "reciprocam", layer="conv9")


def test_a_quantized_network_is_explained(named):
    network = named("cnn")
    model = int8_onnx(network.model, network.samples(20, seed=9))
    x = network.samples(2)
    graph = build(model, "reciprocam")
    own = run(graph, inputs_of(graph, x, [0, 1]))
    told = build(network.model, "reciprocam")
    aim = run(told, inputs_of(told, x, [0, 1]))

    np.testing.assert_array_equal(own["logits"], predict(model, x))
    assert np.corrcoef(own["explain"].ravel(), aim["explain"].ravel())[0, 1] > 0.95
