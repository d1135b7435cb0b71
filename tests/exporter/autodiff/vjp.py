"""A case made into graphs: the operator alone, and its VJP as the walker builds it."""

import numpy as np
import onnx
from onnx import helper

from clearweight.exporter.autodiff import NON_DIFFERENTIABLE, RULES, Emit, Graph, pull_back
from tests.exporter.autodiff.case import Case


def names_of(case: Case) -> list[str]:
    """Input names in the operator's order, "" where one is left out."""
    last = max([*case.settings, *case.weights, -1])
    names, data = [], iter(range(len(case.shapes)))
    position = 0
    while True:
        if position in case.settings:
            names.append(f"setting_{position}")
        elif position in case.weights:
            names.append(f"weight_{position}")
        else:
            following = next(data, None)
            if following is None:
                if position > last:
                    return names
                names.append("")
            else:
                names.append(f"x_{following}")
        position += 1


def output_names(case: Case) -> list[str]:
    return ["y", *(f"y_{index}" for index in range(1, case.outputs))]


def forward_model(case: Case, weights: dict[int, np.ndarray]) -> onnx.ModelProto:
    """The operator with its settings as constants and its weights as initializers, batch axes open."""
    nodes = []
    for position, value in case.settings.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = f"setting_{position}"
        nodes.append(helper.make_node("Constant", [], [name], value=onnx.numpy_helper.from_array(array)))
    outputs = output_names(case)
    made = [*outputs, *(f"places_{index}" for index in range(case.places))]
    nodes.append(helper.make_node(case.op, names_of(case), made, "the_node", **case.attrs))
    inputs = []
    for index, shape in enumerate(case.shapes):
        dims = ["N" if (index, axis) in case.free else size for axis, size in enumerate(shape)]
        inputs.append(helper.make_tensor_value_info(f"x_{index}", onnx.TensorProto.FLOAT, dims))
    initializers = [
        onnx.numpy_helper.from_array(array.astype(np.float32), f"weight_{position}")
        for position, array in weights.items()
    ]
    declared = [onnx.ValueInfoProto(name=name) for name in outputs]
    for output in declared:
        output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    graph = helper.make_graph(nodes, "case", inputs, declared, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10)


def vjp_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The gradients to every input of a model with outputs ``y``, ..., for cotangents ``dy``, ..."""
    graph = Graph(model)
    cotangents = {name: graph.add_input(f"d{name}", graph.type(name)) for name in graph.outputs}
    wanted = graph.inputs
    found = pull_back(Emit(graph), cotangents, wanted, RULES, NON_DIFFERENTIABLE)
    assert set(wanted) <= set(found)
    outputs = []
    for name in wanted:
        outputs.append(f"d_{name}")
        graph.export(found[name], f"d_{name}")
    return graph.model(list(cotangents.values()), outputs)


def sample(case: Case, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[int, np.ndarray]]:
    """Inputs by name and weights by position, float32 values in float64."""
    rng = np.random.default_rng(seed)
    inputs = {
        f"x_{index}": case.sampler(rng, shape).astype(np.float32).astype(np.float64)
        for index, shape in enumerate(case.shapes)
    }
    weights = {
        position: rng.uniform(0.5, 1.5, shape).astype(np.float32).astype(np.float64)
        * (1.0 if case.op == "BatchNormalization" else rng.choice([-1.0, 1.0], shape))
        for position, shape in case.weights.items()
    }
    return inputs, weights
