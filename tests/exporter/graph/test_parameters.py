"""Structure and numbers apart, and together again."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from clearweight.exporter.graph import ParameterError, embed_parameters, split_parameters


def test_split_then_embed_gives_the_same_bytes(network, exported):
    model = exported(*network)

    assert embed_parameters(*split_parameters(model)).SerializeToString() == model.SerializeToString()


def test_structure_holds_names_types_and_shapes_only(perceptron, exported):
    model = exported(*perceptron)

    structure, parameters = split_parameters(model)

    for tensor in structure.graph.initializer:
        assert tensor.data_location == onnx.TensorProto.EXTERNAL
        assert [(entry.key, entry.value) for entry in tensor.external_data] == [("location", "weights.cwt")]
        assert tuple(tensor.dims) == parameters[tensor.name].shape
        assert not tensor.HasField("raw_data")
    assert len(structure.SerializeToString()) < 2000
    assert parameters["fc1.weight"].flags.writeable


def test_a_stock_runtime_takes_the_numbers_by_name(network, exported):
    module, images = network
    structure, parameters = split_parameters(exported(module, images))
    options = ort.SessionOptions()
    values = [ort.OrtValue.ortvalue_from_numpy(array) for array in parameters.values()]
    options.add_external_initializers(list(parameters), values)

    opened = ort.InferenceSession(structure.SerializeToString(), options, providers=["CPUExecutionProvider"])

    with torch.no_grad():
        expected = module(images).numpy()
    assert np.abs(opened.run(None, {"input": images.numpy()})[0] - expected).max() < 1e-5


def test_changed_numbers_are_the_ones_that_run(perceptron, exported):
    module, images = perceptron
    structure, parameters = split_parameters(exported(module, images))
    parameters["fc2.weight"][:] = 0

    model = embed_parameters(structure, parameters)

    assert not np.any(onnx.numpy_helper.to_array(model.graph.initializer[2]))


def test_splitting_twice_is_a_named_error(perceptron, exported):
    structure, _ = split_parameters(exported(*perceptron))

    with pytest.raises(ParameterError, match=r"'fc1\.weight' is external already"):
        split_parameters(structure)


def test_missing_and_unknown_names_are_a_named_error(perceptron, exported):
    structure, parameters = split_parameters(exported(*perceptron))
    parameters["fc9.weight"] = parameters.pop("fc1.weight")

    with pytest.raises(ParameterError, match=r"missing \['fc1.weight'\], unknown \['fc9.weight'\]"):
        embed_parameters(structure, parameters)


@pytest.mark.parametrize("change", [lambda a: a.T, lambda a: a.astype(np.float64)])
def test_another_shape_or_type_is_a_named_error(perceptron, change, exported):
    structure, parameters = split_parameters(exported(*perceptron))
    parameters["fc1.weight"] = change(parameters["fc1.weight"])

    with pytest.raises(ParameterError, match=r"'fc1.weight' has shape .* expected \(20, 64\) and float32"):
        embed_parameters(structure, parameters)
