"""Sparse exchange files that stock ONNX Runtime runs."""

import numpy as np
import onnx
import pytest
import torch

from clearweight.exporter.graph import session, sparse_onnx, to_onnx


def thinned(module, density):
    """Set all but every k-th weight of each tensor to zero, some of them to minus zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            flat = parameter.view(-1)
            keep = torch.arange(flat.numel()) % round(1 / density) == 0
            flat.mul_(keep)  # a negative weight becomes minus zero
    return module


def test_logits_are_those_of_the_dense_model(network):
    module, images = network
    model = to_onnx(thinned(module, 0.2), images)
    feed = {"input": images.numpy()}

    dense, thin = (session(source).run(None, feed)[0] for source in (model, sparse_onnx(model)))

    assert np.array_equal(dense, thin)


def test_thin_tensors_become_sparse_and_dense_ones_stay(perceptron, exported):
    module, images = perceptron
    thinned(module, 0.2)
    with torch.no_grad():
        module.fc2.weight.normal_()
        module.fc2.bias.zero_()
    model = exported(module, images)

    content = sparse_onnx(model)
    written = onnx.load_from_string(content)

    assert {entry.values.name for entry in written.graph.sparse_initializer} == {"fc1.weight", "fc1.bias"}
    assert {tensor.name for tensor in written.graph.initializer} == {"fc2.weight", "fc2.bias"}
    assert len(content) < len(model.SerializeToString())


def test_indices_are_linear_ascending_int64_of_the_nonzero_values(perceptron):
    module, images = perceptron
    model = to_onnx(thinned(module, 0.2), images)
    dense = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}

    for entry in onnx.load_from_string(sparse_onnx(model)).graph.sparse_initializer:
        indices = onnx.numpy_helper.to_array(entry.indices)
        values = onnx.numpy_helper.to_array(entry.values)
        rebuilt = np.zeros(int(np.prod(entry.dims)), np.float32)
        rebuilt[indices] = values
        assert indices.dtype == np.int64
        assert (np.diff(indices) > 0).all()
        assert (values != 0).all()
        assert np.array_equal(rebuilt.reshape(entry.dims), dense[entry.values.name])


@pytest.mark.parametrize(("nonzero", "sparse"), [(33, True), (34, False)])
def test_the_limit_is_one_third(nonzero, sparse):
    module = torch.nn.Linear(100, 1, bias=False)
    with torch.no_grad():
        module.weight.zero_()
        module.weight[0, :nonzero] = 1.0

    written = onnx.load_from_string(sparse_onnx(to_onnx(module, torch.randn(2, 100))))

    assert bool(written.graph.sparse_initializer) is sparse
