"""MPDCompress: the mask as the paper writes it, and the small products that ship in its place."""

import itertools

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from clearweight.exporter import ConstraintError
from clearweight.exporter.compress import Mpd, MpdConfig, Workbench
from clearweight.exporter.compress.constraint import coded_tensors, put, put_codebook, value_of
from clearweight.exporter.compress.mpd import BlockMask, block_masks, dealt
from clearweight.exporter.explain import build, verify
from clearweight.exporter.graph import session, split_parameters, to_onnx, without_parametrizations
from clearweight.exporter.oracle import oracle
from clearweight.exporter.restructure import restructure

TUNE = {"epochs": 2, "batch_size": 32}
X = torch.rand(5, 1, 4, 5, generator=torch.Generator().manual_seed(1))


def chain(*widths, activation=nn.ReLU):
    torch.manual_seed(0)
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(nn.Flatten(), *layers[:-1]).eval()


def blocked(model, blocks):
    """Put blocks on linear layers, dealt at random."""
    draws = torch.Generator().manual_seed(3)
    for name, count in blocks.items():
        rows, columns = (
            dealt(n, count, torch.randperm(n, generator=draws)) for n in value_of(model, name).shape
        )
        put(model, name, BlockMask(rows, columns))
    return model


def deployed(model, example=X):
    return restructure(model, to_onnx(model, example), coded_tensors(model))


@pytest.mark.parametrize(("count", "blocks"), [(12, 3), (79, 10), (7, 7), (300, 10)])
def test_blocks_are_as_equal_as_they_can_be_and_the_order_deals_them(count, blocks):
    order = torch.randperm(count, generator=torch.Generator().manual_seed(2))

    found = dealt(count, blocks, order)

    sizes = torch.bincount(found)
    assert len(sizes) == blocks
    assert sizes.max() - sizes.min() <= 1
    assert torch.equal(found[order], found[order].sort().values)


def test_the_mask_is_a_block_diagonal_matrix_between_two_permutations():
    rows_order, columns_order = torch.randperm(6), torch.randperm(9)
    mask = BlockMask(dealt(6, 3, rows_order), dealt(9, 3, columns_order))
    diagonal = np.kron(np.eye(3), np.ones((2, 3)))  # B of the paper
    expected = diagonal[rows_order.argsort().numpy()][:, columns_order.argsort().numpy()]

    assert np.array_equal(mask(torch.ones(6, 9)).numpy(), expected)


@pytest.mark.parametrize(
    ("widths", "blocks"),
    [
        ((20, 12, 8, 4), {"1.weight": 4, "3.weight": 4}),  # two in a row, then dense
        ((20, 13, 9, 4), {"1.weight": 3, "3.weight": 4}),  # nothing divides
        ((20, 12, 8, 4), {"1.weight": 4}),  # a dense layer takes the permutation in
        ((20, 12, 8, 4), {"3.weight": 2}),  # between two dense ones
        ((20, 12, 8, 4), {"5.weight": 2}),  # the last stays a masked matrix
    ],
)
def test_the_small_products_compute_what_the_masked_layers_do(widths, blocks):
    model = blocked(chain(*widths), blocks)

    made = deployed(model)

    expected = model(X).detach().numpy()
    found = session(made.model).run(None, {"input": X.numpy()})[0]
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
    shapes = {t.name: tuple(t.dims) for t in made.model.graph.initializer}
    assert {t.name: t.values.shape for t in made.tensors} == shapes
    parameters = sum(p.numel() for p in chain(*widths).parameters())
    assert sum(made.stands_for.get(t.name, t.values.size) for t in made.tensors) == parameters


def test_weights_shrink_by_the_number_of_blocks_and_permutations_between_layers_are_one():
    made = deployed(blocked(chain(20, 12, 8, 4), {"1.weight": 4, "3.weight": 4}))

    _, parameters = split_parameters(made.model)
    assert parameters["1.weight"].shape == (4, 3, 5)
    assert parameters["3.weight"].shape == (4, 2, 3)
    operators = [node.op_type for node in made.model.graph.node]
    assert operators.count("Gather") == 2
    assert operators.count("Transpose") == 2
    assert operators.count("Gemm") == 1


def test_a_reader_that_is_no_linear_layer_gets_its_units_in_order():
    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(20, 12), nn.Linear(12, 4)

        def forward(self, x):
            hidden = torch.relu(self.first(x.flatten(1)))
            return self.last(torch.softmax(hidden, 1) + hidden)

    torch.manual_seed(0)
    model = blocked(Doubled().eval(), {"first.weight": 4})

    found = session(deployed(model).model).run(None, {"input": X.numpy()})[0]
    assert np.allclose(found, model(X).detach().numpy(), atol=1e-6)


def test_a_codebook_moves_along_and_gaps_are_its_zero():
    model = blocked(chain(20, 13, 8, 4), {"1.weight": 3})
    weight = value_of(model, "1.weight").detach()
    centroids = torch.tensor([-0.5, 0.5])
    put_codebook(model, "1.weight", centroids, torch.where(weight == 0, 0, 1 + (weight > 0).long()))

    (coded,) = [t for t in deployed(model).tensors if t.name == "1.weight"]

    coded.validate()
    assert coded.values.shape == (3, 5, 7)
    assert (coded.values == 0).sum() == 3 * 5 * 7 - (weight != 0).sum()


@pytest.mark.parametrize("method", ["gradient", "input_x_gradient", "smoothgrad", "lrp_epsilon"])
def test_explain_graphs_work_on_blocks_and_agree_with_torch(method):
    model = blocked(chain(20, 13, 8, 4), {"1.weight": 3, "3.weight": 4})
    made = deployed(model).model
    graph = build(made, method)

    record = verify(graph, made, X.numpy(), oracle(without_parametrizations(model), graph, made))

    assert record.cosine_to_float64 > 0.9999


def test_the_runtime_sorts_the_gathered_places_when_it_loads(tmp_path):
    made = deployed(blocked(chain(20, 12, 8, 4), {"1.weight": 4})).model
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])

    operators = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "Gather" in operators
    assert not operators & {"TopK", "Range", "Min", "Cast"}


def test_the_step_masks_trains_and_keeps_its_promise(bench: Workbench, tiny_model):
    step = Mpd(MpdConfig(blocks={"1.weight": 4}, fine_tune=TUNE))

    step.apply(tiny_model, bench)
    step.ensure(tiny_model)

    assert int(torch.count_nonzero(value_of(tiny_model, "1.weight"))) == 16 * 12 // 4
    free = block_masks(tiny_model)["1.weight"]
    assert free.rows.tolist() != sorted(free.rows.tolist())


def test_the_control_deals_neighbours(bench: Workbench, tiny_model):
    Mpd(MpdConfig(blocks={"1.weight": 4}, permuted=False, fine_tune=TUNE)).apply(tiny_model, bench)

    mask = block_masks(tiny_model)["1.weight"]
    assert mask.rows.tolist() == sorted(mask.rows.tolist())


def test_a_wrong_name_or_too_many_blocks_are_refused(bench: Workbench, tiny_model):
    for blocks, said in (({"conv": 4}, "matches no weight"), ({"3.weight": 9}, "no room for 9 blocks")):
        with pytest.raises(ConstraintError, match=said):
            Mpd(MpdConfig(blocks=blocks, fine_tune=TUNE)).apply(tiny_model, bench)
