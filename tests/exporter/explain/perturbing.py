"""What the tests of the perturbing explainers share: running a graph, and networks that have no gradient rule."""

import io
import warnings
from functools import cache

import numpy as np
import onnx
import torch
from torch import nn

from clearweight.artifact import explain_inputs
from clearweight.exporter.graph import session


def inputs_of(graph, x, target, *, steps=None, baseline=None, seed=0):
    made = explain_inputs(
        graph.inputs,
        x.shape,
        steps=graph.steps if steps is None else steps,
        seed=seed,
        settings=graph.settings,
        baseline=baseline,
    )
    return {"input": x, "target": np.asarray(target, np.int64), **made}


def run(graph, inputs):
    runtime = session(graph.model)
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(None, inputs), strict=True))


def predict(model, x):
    return session(model).run(None, {"input": x})[0]


class Recurrent(nn.Module):
    shape = (3, 12)

    def __init__(self, kind):
        super().__init__()
        self.cell, self.fc = kind(3, 5, batch_first=True, bidirectional=True), nn.Linear(10, 4)

    def forward(self, x):
        return self.fc(self.cell(x.transpose(1, 2))[0][:, -1])


@cache
def recurrent(kind, *, dynamo):
    """A GRU or LSTM by either of torch's exporters."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(8)
        module = Recurrent(kind).eval()
        example, written = torch.zeros(2, *module.shape), io.BytesIO()
        if dynamo:
            batch = {0: torch.export.Dim("N")}
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=18,
                dynamic_shapes=(batch,),
                verbose=False,
                input_names=["input"],
                output_names=["logits"],
            )
            return onnx.shape_inference.infer_shapes(program.model_proto)
        torch.onnx.export(
            module,
            (example,),
            written,
            dynamo=False,
            opset_version=17,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "N"}, "logits": {0: "N"}},
        )
    return onnx.load_from_string(written.getvalue())


def with_loop():
    """logits = x W, then twice logits + sum(x): the loop's body reads a value and a parameter of the outer graph."""
    weight = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32)
    bias = np.array([0.1, -0.2, 0.3], np.float32)
    body = onnx.parser.parse_graph(
        """
        step (int64 i, bool on, float[N, 3] before) => (bool going, float[N, 3] after) {
            going = Identity(on)
            shifted = Add(before, bias)
            after = Add(shifted, size)
        }
        """
    )
    graph = onnx.parser.parse_graph(
        """
        net (float[N, 6] input) => (float[N, 3] logits) {
            axes = Constant<value: tensor = int64[1] {1}>()
            size = ReduceSum(input, axes)
            start = MatMul(input, weight)
            twice = Constant<value: tensor = int64 {2}>()
        }
        """
    )
    graph.node.append(onnx.helper.make_node("Loop", ["twice", "", "start"], ["logits"], "loop", body=body))
    graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in (("weight", weight), ("bias", bias))
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
