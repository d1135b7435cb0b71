"""From a torch module and its codes to the files of an artifact: graphs, packed weights, explain graphs."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from clearweight.artifact import CodedTensor, Explainer, Verification, WeightsReport, write_weights
from clearweight.exporter.compress import coded_tensors
from clearweight.exporter.errors import ConstraintError, RecipeError
from clearweight.exporter.explain import EXPLAINERS, ExplainGraph, NotApplicableError, build, verify
from clearweight.exporter.graph import split_parameters, to_onnx
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Emitted:
    """One network in deployable form.

    Attributes
    ----------
    plain : the torch module, constraints turned into values
    predict : self-contained canonical ONNX
    graphs : method -> explain graph, self-contained
    records : method -> what the manifest says of it
    contents : file name -> bytes, for the artifact
    """

    plain: nn.Module
    predict: onnx.ModelProto
    graphs: dict[str, ExplainGraph]
    records: dict[str, Explainer]
    contents: dict[str, bytes]
    report: WeightsReport


def pack(tensors: Sequence[CodedTensor]) -> tuple[bytes, WeightsReport]:
    """Return the bytes of ``weights.cwt`` and what the writer says of them."""
    buffer = io.BytesIO()
    report = write_weights(buffer, tensors)
    return buffer.getvalue(), report


def check_codes(tensors: Sequence[CodedTensor], parameters: dict[str, NDArray[np.float32]]) -> None:
    """Demand that the codes are the graph's parameters: the same names, the same bits.

    Raises
    ------
    ConstraintError
        A parameter of the graph has no code, or its values differ.
    """
    codes = {tensor.name: tensor for tensor in tensors}
    for name, values in parameters.items():
        if name not in codes:
            raise ConstraintError(
                f"Parameter {name!r} of the graph is none of the module's: {', '.join(codes)}."
            )
        if not np.array_equal(codes[name].values, values):
            raise ConstraintError(f"Parameter {name!r} has other values in the graph than in the module.")


@dataclass(frozen=True)
class Oracle:
    """Input-level maps by torch autograd: ``(x, target) -> map``."""

    model: nn.Module
    method: str

    def __call__(self, inputs: NDArray[np.float32], target: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the float32 map of each input for its target class; same shape as ``inputs``."""
        x = torch.from_numpy(inputs).requires_grad_()
        score = self.model(x).gather(1, torch.from_numpy(target)[:, None]).sum()
        (gradient,) = torch.autograd.grad(score, x)
        values: NDArray[np.float32] = (
            (gradient if self.method == "gradient" else gradient * x).detach().numpy()
        )
        return values


# Methods whose map torch autograd gives directly; the others are checked against float64 evaluation.
INPUT_LEVEL = frozenset({"gradient", "input_x_gradient"})


def explain_graphs(model: onnx.ModelProto, recipe: Recipe) -> dict[str, ExplainGraph]:
    """Build the explain graph of every method that the recipe names.

    Methods that the recipe only inherits from the defaults are left out where the network does not allow them
    (Grad-CAM needs a feature map); a method that the recipe names itself must work.

    Raises
    ------
    RecipeError
        Unknown method, or a method named in the recipe that this network does not allow.
    """
    unknown = [m for m in recipe.explainers if m not in EXPLAINERS]
    if unknown:
        raise RecipeError(f"explainers: unknown {unknown[0]!r}; known: {', '.join(EXPLAINERS)}.")
    graphs = {}
    for method in recipe.explainers:
        layer = recipe.gradcam_layer if method == "gradcam" else None
        try:
            graphs[method] = build(model, method, layer=layer)
        except NotApplicableError as error:
            if "explainers" in recipe.model_fields_set:
                raise RecipeError(f"explainers: {method!r} does not work on this network: {error}") from error
    return graphs


def record(graph: ExplainGraph, verification: Verification) -> Explainer:
    """Return what the manifest says of an explain graph."""
    return Explainer(
        file=f"explain.{graph.method}.onnx",
        method=graph.method,
        target_rule="argmax",
        sign=graph.sign,
        units=graph.units,
        baseline=graph.baseline,
        inputs=graph.inputs,
        steps=graph.steps,
        settings=dict(graph.settings),
        gradient_ste=graph.gradient_ste,
        resolution=graph.resolution,
        layer=graph.layer,
        map_shape=tuple(graph.map_shape),
        completeness=graph.completeness,
        verification=verification,
    )


def emit(
    model: nn.Module,
    recipe: Recipe,
    samples: NDArray[np.float32],
    on_graph: Callable[[int, int], None] = lambda _done, _total: None,
) -> Emitted:
    """Turn a network into the files of an artifact, each explain graph verified.

    Parameters
    ----------
    model : possibly constrained
    samples : inputs on which the explain graphs are verified, at least two
    on_graph : called as (done, total) after each verified explain graph
    """
    tensors = coded_tensors(model)
    plain = without_parametrizations(model)
    predict = to_onnx(plain, torch.zeros(2, *recipe.model.input_shape))
    structure, parameters = split_parameters(predict)
    check_codes(tensors, parameters)
    packed, report = pack([tensor for tensor in tensors if tensor.name in parameters])
    contents = {"predict.onnx": structure.SerializeToString(deterministic=True), "weights.cwt": packed}
    graphs = explain_graphs(predict, recipe)
    records = {}
    for method, graph in graphs.items():
        outline, _ = split_parameters(graph.model)
        contents[f"explain.{method}.onnx"] = outline.SerializeToString(deterministic=True)
        second = Oracle(plain, method) if method in INPUT_LEVEL else None
        records[method] = record(graph, verify(graph, predict, samples, second))
        on_graph(len(records), len(graphs))
    return Emitted(plain, predict, graphs, records, contents, report)
