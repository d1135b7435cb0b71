"""Values are called after the modules that return them."""

import pytest

from clearweight.exporter.graph import UnsupportedModelError, layer_output


def names(model):
    return [node.name for node in model.graph.node if node.op_type != "Constant"]


def test_residual_network_reads_like_its_modules(residual_cnn, exported):
    module, images = residual_cnn

    assert names(exported(module, images)) == [
        "conv1",
        "relu",
        "layers.0.conv1",
        "layers.0.relu",
        "layers.0.conv2",
        "layers.0.add",
        "layers.0",
        "layers.1.conv1",
        "layers.1.relu",
        "layers.1.conv2",
        "layers.1.slice_2",
        "layers.1.slice_3",
        "layers.1.pad",
        "layers.1.add",
        "layers.1",
        "reducemean",
        "logits",
    ]


def test_second_call_of_a_module_is_numbered(pooled_cnn, exported):
    module, images = pooled_cnn

    assert names(exported(module, images)) == [
        "conv1",
        "relu",
        "pool",
        "conv2",
        "relu_2",
        "pool.call2",
        "reshape",
        "logits",
    ]


def test_every_node_is_called_after_its_first_output(network, exported):
    module, images = network

    model = exported(module, images)

    assert all(node.name == node.output[0] for node in model.graph.node)
    assert len(set(names(model))) == len(names(model))


def test_a_layer_is_found_where_a_torch_hook_would_see_it(residual_cnn, pooled_cnn, exported):
    residual = exported(*residual_cnn)
    pooled = exported(*pooled_cnn)

    assert layer_output(residual, "layers.0.conv1") == "layers.0.conv1"
    assert layer_output(residual, "layers.0") == "layers.0"
    assert layer_output(residual, "layers") == "layers.1"
    assert layer_output(pooled, "pool") == "pool.call2"


def test_unknown_layer_lists_the_known_ones(perceptron, exported):
    model = exported(*perceptron)

    with pytest.raises(UnsupportedModelError, match=r"No layer 'conv9' in the graph\. Known layers: .*fc1"):
        layer_output(model, "conv9")
