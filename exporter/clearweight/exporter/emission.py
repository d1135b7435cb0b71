"""From a torch module and its codes to the files of an artifact: graphs, packed weights, explain graphs."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from clearweight.artifact import (
    CodedTensor,
    Coder,
    Explainer,
    Ledger,
    TiledTensor,
    WeightsReport,
    write_weights,
)
from clearweight.exporter.autodiff import COMMITTED, UnsupportedOpError
from clearweight.exporter.compress import coded_tensors
from clearweight.exporter.device_profile import read_profile
from clearweight.exporter.errors import ConstraintError, RecipeError
from clearweight.exporter.evaluate.onnx_module import OnnxModule
from clearweight.exporter.explain import (
    EXPLAINERS,
    ExplainGraph,
    NotApplicableError,
    UnknownMethodError,
    build,
    verify,
)
from clearweight.exporter.explain.record import record
from clearweight.exporter.graph import split_parameters, to_onnx
from clearweight.exporter.graph.plain import without_parametrizations
from clearweight.exporter.mixed_precision import curvature, mix
from clearweight.exporter.oracle import oracle
from clearweight.exporter.quantization import OCCLUSION, Quantized, quantize, with_agreement
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.restructure import Restructured, restructure


@dataclass(frozen=True, eq=False)
class Emitted:
    """One network in deployable form.

    Attributes
    ----------
    plain : the torch module, constraints turned into values; of one deployed in fewer bits, the ONNX file as a module
    predict : self-contained canonical ONNX
    graphs : method -> explain graph, self-contained
    records : method -> what the manifest says of it
    contents : file name -> bytes, for the artifact
    report : what the writer says of the packed weights
    stands_for : packed tensor -> how many of the reference's parameters it stands for, where not all its elements
    channels : value -> which of the reference's channels it still has, where it lost some
    quantized : whether activations are rounded, too
    exact : the network in float32, before it was deployed in fewer bits; None where ``predict`` is that
    bits : weight -> the bits it takes, where they were chosen weight by weight
    """

    plain: nn.Module
    predict: onnx.ModelProto
    graphs: dict[str, ExplainGraph]
    records: dict[str, Explainer]
    contents: dict[str, bytes]
    report: WeightsReport
    stands_for: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    quantized: bool = False
    exact: onnx.ModelProto | None = None
    bits: Mapping[str, int] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        """Where the bytes of the packed weights went, every parameter counted once."""
        return self.report.ledger(self.stands_for)


def pack(tensors: Sequence[CodedTensor], coder: Coder = "huffman") -> tuple[bytes, WeightsReport]:
    """Return the bytes of ``weights.cwt`` and what the writer says of them."""
    buffer = io.BytesIO()
    tiles = any(isinstance(tensor, TiledTensor) for tensor in tensors)
    report = write_weights(buffer, tensors, coder=coder, tiles=tiles)
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
        if any(code.startswith(f"{name}.") for code in codes):
            continue  # factors stand in its place
        if name not in codes:
            raise ConstraintError(
                f"Parameter {name!r} of the graph is none of the module's: {', '.join(codes)}."
            )
        if not np.array_equal(codes[name].values, values):
            raise ConstraintError(f"Parameter {name!r} has other values in the graph than in the module.")


def explainer(model: onnx.ModelProto, recipe: Recipe, method: str) -> ExplainGraph:
    """Build one explain graph as the recipe sets it."""
    feature_level = EXPLAINERS[method].resolution == "feature"
    return build(
        model,
        method,
        layer=recipe.feature_layer if feature_level else None,
        settings=recipe.explainer_settings.get(method, {}),
        costs=COMMITTED if recipe.device_profile is None else read_profile(recipe.device_profile).costs(),
    )


def check_explainers(recipe: Recipe) -> None:
    """Refuse what a recipe says of explainers as far as that can be told without a network: before any work begins.

    Raises
    ------
    RecipeError
        Unknown method, or a device profile that cannot be used.
    """
    for key, named in (("explainers", recipe.explainers), ("explainer_settings", recipe.explainer_settings)):
        unknown = [m for m in named if m not in EXPLAINERS]
        if unknown:
            raise RecipeError(f"{key}: unknown {unknown[0]!r}; known: {', '.join(EXPLAINERS)}.")
    if recipe.device_profile is not None:
        read_profile(recipe.device_profile)


def explain_graphs(
    model: onnx.ModelProto, recipe: Recipe, also: Sequence[str] = ()
) -> dict[str, ExplainGraph]:
    """Build the explain graph of every method that the recipe names, and of those that are needed whatever it names.

    Methods that the recipe only inherits from the defaults are left out where the network does not allow them
    (Grad-CAM needs a feature map); a method that the recipe names itself, or gives a layer to, or that is needed,
    must work, and so must the default explainer.

    Raises
    ------
    RecipeError
        Unknown method or setting, settings of a method that is not built, or a method that must work and that this
        network does not allow.
    """
    check_explainers(recipe)
    methods = list(dict.fromkeys((*recipe.explainers, *also)))
    idle = [m for m in recipe.explainer_settings if m not in methods]
    if idle:
        raise RecipeError(f"explainer_settings: {idle[0]!r} is not among explainers: {', '.join(methods)}.")
    graphs = {}
    for method in methods:
        try:
            graphs[method] = explainer(model, recipe, method)
        except UnknownMethodError as error:
            raise RecipeError(f"explainer_settings: {error}") from error
        except (NotApplicableError, UnsupportedOpError) as error:
            needed = (recipe.default_explainer, *also)
            if {"explainers", "feature_layer"} & recipe.model_fields_set or method in needed:
                raise RecipeError(f"explainers: {method!r} does not work on this network: {error}") from error
    return graphs


def emit(
    model: nn.Module,
    recipe: Recipe,
    samples: NDArray[np.float32],
    on_graph: Callable[[int, int], None] = lambda _done, _total: None,
    *,
    calibration: NDArray[np.float32] | None = None,
) -> Emitted:
    """Turn a network into the files of an artifact, each explain graph verified.

    Parameters
    ----------
    model : possibly constrained
    samples : inputs on which the explain graphs are verified, at least two
    on_graph : called as (done, total) after each verified explain graph
    calibration : deploy as the recipe says, by what these inputs show; None stays in float32
    """
    tensors = coded_tensors(model)
    plain = without_parametrizations(model)
    exact = to_onnx(plain, torch.zeros(2, *recipe.model.input_shape))
    _, parameters = split_parameters(exact)
    check_codes(tensors, parameters)
    own = [tensor for tensor in tensors if tensor.name in parameters]
    rebuilt = restructure(model, exact, own)
    small = None if calibration is None else _deployed(model, exact, rebuilt, recipe, calibration)
    exact, rounded = rebuilt.model, small is not None and recipe.deploy == "int8"
    predict = exact if small is None else small.predict
    packed, report = pack(rebuilt.tensors if small is None else small.tensors, recipe.coder)
    contents = {"predict.onnx": _structure(predict), "weights.cwt": packed}
    graphs = explain_graphs(predict, recipe, (OCCLUSION,) if rounded else ())
    records = {}
    for method, graph in graphs.items():
        contents[f"explain.{method}.onnx"] = _structure(graph.model)
        second = oracle(plain, graph, predict, rebuilt.channels) if small is None else None
        verification = verify(graph, predict, samples, second)
        if graph.gradient_ste and calibration is not None:
            float_graph = explainer(exact, recipe, method)
            verification = with_agreement(
                verification, graph, float_graph, graphs[OCCLUSION], calibration, threads=recipe.threads
            )
        records[method] = record(graph, verification)
        on_graph(len(records), len(graphs))
    if small is None:
        return Emitted(
            plain, predict, graphs, records, contents, report, rebuilt.stands_for, rebuilt.channels
        )
    shipped = OnnxModule(predict, threads=recipe.threads)
    counted = {**small.stands_for, **rebuilt.stands_for, **dict.fromkeys(small.beside, 0)}
    return Emitted(
        shipped,
        predict,
        graphs,
        records,
        contents,
        report,
        counted,
        rebuilt.channels,
        quantized=rounded,
        exact=exact,
        bits=small.bits,
    )


def _deployed(
    model: nn.Module,
    exact: onnx.ModelProto,
    rebuilt: Restructured,
    recipe: Recipe,
    calibration: NDArray[np.float32],
) -> Quantized | None:
    """Return the network as the recipe deploys it; None for float32."""
    if recipe.deploy == "int8":
        return quantize(rebuilt.model, rebuilt.tensors, calibration)
    if recipe.mixed_precision is None:
        return None
    bent = curvature(model, exact, calibration, recipe.mixed_precision, recipe.seed)
    return mix(rebuilt.model, rebuilt.tensors, bent, recipe.mixed_precision)


def _structure(model: onnx.ModelProto) -> bytes:
    """Write a graph without its parameters."""
    outline, _ = split_parameters(model)
    return outline.SerializeToString(deterministic=True)
