"""Small artifacts made by hand for the service's tests: a two-layer ReLU network with its gradient graphs.

Nothing here comes from the exporter, so the service is tested against the format and not against its neighbour.
"""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from clearweight.artifact import (
    QUANTILE_LEVELS,
    SCORES,
    Canaries,
    Canary,
    ClassNull,
    CodedTensor,
    Drift,
    Explainer,
    Fidelity,
    IntegrityLimit,
    Manifest,
    NullDistribution,
    Preprocessing,
    Quality,
    Summary,
    TensorSpec,
    Verification,
    write_artifact,
    write_weights,
)

SHAPE = (1, 8, 8)
HIDDEN = 24
CLASSES = 5
METHODS = ("input_x_gradient", "gradient")
AS_IT_IS = Preprocessing()
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """logits = w2 relu(w1 x + b1) + b2, and its maps, in numpy: the oracle."""

    w1: Array
    b1: Array
    w2: Array
    b2: Array

    @property
    def parameters(self) -> dict[str, Array]:
        return {"w1": self.w1, "b1": self.b1, "w2": self.w2, "b2": self.b2}

    def logits(self, x: Array) -> Array:
        hidden = np.maximum(x.reshape(len(x), -1) @ self.w1.T + self.b1, 0)
        return hidden @ self.w2.T + self.b2

    def explain(self, x: Array, target: NDArray[np.int64], method: str = "input_x_gradient") -> Array:
        active = (x.reshape(len(x), -1) @ self.w1.T + self.b1) > 0
        gradient = ((self.w2[target] * active) @ self.w1).reshape(x.shape)
        return gradient if method == "gradient" else x * gradient


def network(seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    w1 = rng.standard_normal((HIDDEN, int(np.prod(SHAPE)))).astype(np.float32) / 8
    w2 = rng.standard_normal((CLASSES, HIDDEN)).astype(np.float32) / 5
    return Network(
        w1,
        rng.standard_normal(HIDDEN).astype(np.float32) / 4,
        w2,
        rng.standard_normal(CLASSES).astype(np.float32) / 4,
    )


def pruned(reference: Network, share: float) -> Network:
    """Zero the smallest ``share`` of both weight matrices, and all weights of pixels that clean inputs leave dark."""

    def prune(weight: Array) -> Array:
        return np.where(np.abs(weight) < np.quantile(np.abs(weight), share), 0, weight).astype(np.float32)

    dark = np.ones(SHAPE, bool)
    dark[:, 1:-1, 1:-1] = False
    return replace(
        reference,
        w1=np.where(dark.ravel() & (share > 0), np.float32(0), prune(reference.w1)),
        w2=prune(reference.w2),
    )


def inputs(rows: int, seed: int = 1) -> Array:
    """Clean inputs: smooth bumps at random places, dark at the border."""
    rng = np.random.default_rng(seed)
    grid = np.arange(8)
    centre = rng.uniform(1, 6, (rows, 2, 1, 1))
    bump = np.exp(-((grid[:, None] - centre[:, 0]) ** 2 + (grid[None, :] - centre[:, 1]) ** 2) / 6)
    image = np.zeros((rows, 8, 8))
    image[:, 1:-1, 1:-1] = (bump + 0.1 * rng.standard_normal((rows, 8, 8)))[:, 1:-1, 1:-1]
    return image.astype(np.float32)[:, None]


def corrupted(rows: int, seed: int = 2) -> Array:
    """Light at the border, where the pruned network no longer looks."""
    rng = np.random.default_rng(seed)
    return inputs(rows, seed) + np.abs(0.5 * rng.standard_normal((rows, *SHAPE))).astype(np.float32)


def _constant(name: str, values: NDArray) -> onnx.NodeProto:
    return helper.make_node(
        "Constant", [], [name], value=onnx.numpy_helper.from_array(np.asarray(values), name + ".value")
    )


def _forward() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Flatten", ["input"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["pre"], transB=1),
        helper.make_node("Relu", ["pre"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "w2", "b2"], ["logits"], transB=1),
    ]


def _backward(method: str) -> list[onnx.NodeProto]:
    nodes = [
        _constant("zero", np.float32(0)),
        _constant("zero_i", np.int64(0)),
        _constant("depth", np.int64(CLASSES)),
        _constant("off_on", np.array([0, 1], np.float32)),
        helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
        helper.make_node("Less", ["target", "zero_i"], ["chosen_here"]),
        helper.make_node("Where", ["chosen_here", "best", "target"], ["class"]),
        helper.make_node("OneHot", ["class", "depth", "off_on"], ["dlogits"], axis=1),
        helper.make_node("MatMul", ["dlogits", "w2"], ["dhidden"]),
        helper.make_node("Greater", ["pre", "zero"], ["active"]),
        helper.make_node("Where", ["active", "dhidden", "zero"], ["dpre"]),
        helper.make_node("MatMul", ["dpre", "w1"], ["dflat"]),
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("Reshape", ["dflat", "shape"], ["explain" if method == "gradient" else "gradient"]),
    ]
    if method == "gradient":
        return nodes
    return [
        *nodes,
        _constant("last", np.array([1], np.int64)),
        helper.make_node("Mul", ["input", "gradient"], ["explain"]),
        helper.make_node("Mul", ["logits", "dlogits"], ["picked"]),
        helper.make_node("ReduceSum", ["picked", "last"], ["f_c"], keepdims=0),
        helper.make_node("Flatten", ["explain"], ["map_flat"]),
        helper.make_node("ReduceSum", ["map_flat", "last"], ["attributed"], keepdims=0),
        helper.make_node("Mul", ["dpre", "b1"], ["bias1"]),
        helper.make_node("ReduceSum", ["bias1", "last"], ["b_1"], keepdims=0),
        helper.make_node("Mul", ["dlogits", "b2"], ["bias2"]),
        helper.make_node("ReduceSum", ["bias2", "last"], ["b_2"], keepdims=0),
        helper.make_node("Sub", ["f_c", "attributed"], ["rest"]),
        helper.make_node("Sub", ["rest", "b_1"], ["rest_1"]),
        helper.make_node("Sub", ["rest_1", "b_2"], ["completeness_error"]),
    ]


# Hand-made methods that show what a graph was given: their maps are the input plus a summary of the further inputs.
PROBES: dict[str, tuple[str, ...]] = {
    "probe_baseline": ("baseline",),
    "probe_path": ("baseline", "path", "path_weight"),
    "probe_noise": ("noise",),
    "probe_masks": ("masks", "shifts"),
}
PROBE_STEPS = 6
_PROBE_SHAPES = {
    "baseline": ["N", *SHAPE],
    "path": ["S"],
    "path_weight": ["S"],
    "noise": ["S", *SHAPE],
    "masks": ["S", 4, 4],
    "shifts": ["S", 2],
}


def probe_record(method: str) -> Explainer:
    """What the manifest says of a probe; one with the baseline alone has fixed steps, as occlusion has."""
    return replace(
        record_of(method),
        baseline="input" if "baseline" in PROBES[method] else "none",
        units="logit",
        inputs=PROBES[method],
        steps=PROBE_STEPS,
        settings={"grid": 3.0, "keep": 0.5} if method == "probe_masks" else {},
        gradient_ste=method == "probe_noise",
    )


def probe_map(method: str, x: Array, further: dict[str, Array]) -> Array:
    """The map of a probe, in numpy."""
    shift = x - further["baseline"] if "baseline" in further else x.copy()
    if "path" in further:
        shift = shift + np.dot(further["path"] ** 3, further["path_weight"])
    for name, weight in (("noise", 1), ("masks", 3), ("shifts", 5)):
        if name in further:
            values = further[name]
            # The number of steps counts, and their order.
            ranked = np.arange(1, len(values) + 1).reshape(-1, *[1] * (values.ndim - 1)) * values
            shift = shift + weight * (ranked.sum(axis=0) if name == "noise" else ranked.sum())
    return shift.astype(np.float32)


def _probe(method: str) -> list[onnx.NodeProto]:
    nodes, at = [], "input"

    def op(kind: str, *names: str, **attributes) -> str:
        made = f"probe_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(names), [made], **attributes))
        return made

    def constant(values: NDArray) -> str:
        made = f"probe_{len(nodes)}"
        nodes.append(_constant(made, values))
        return made

    taken = PROBES[method]
    if "baseline" in taken:
        at = op("Sub", at, "baseline")
    if "path" in taken:
        cubed = op("Mul", op("Mul", "path", "path"), "path")
        at = op("Add", at, op("ReduceSum", op("Mul", cubed, "path_weight"), keepdims=0))
    for name, weight in (("noise", 1), ("masks", 3), ("shifts", 5)):
        if name not in taken:
            continue
        count = op("Gather", op("Shape", name), constant(np.int64(0)))
        places = op("Range", constant(np.int64(0)), count, constant(np.int64(1)))
        ranks = op("Add", op("Cast", places, to=TensorProto.FLOAT), constant(np.float32(1)))
        column = constant(np.array([-1, *[1] * (len(_PROBE_SHAPES[name]) - 1)], np.int64))
        ranked = op("Mul", name, op("Reshape", ranks, column))
        axes = [constant(np.array([0], np.int64))] if name == "noise" else []
        summed = op("ReduceSum", ranked, *axes, keepdims=0)
        at = op("Add", at, op("Mul", summed, constant(np.float32(weight))))
    return [
        *nodes,
        helper.make_node("Identity", [at], ["explain"]),
        # The target must be taken, whatever the probe does with it.
        helper.make_node("Identity", ["target"], ["unused"]),
    ]


def _graph(net: Network, method: str | None) -> bytes:
    images = ["N", *SHAPE]
    given = [helper.make_tensor_value_info("input", TensorProto.FLOAT, images)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])]
    nodes = _forward()
    if method is not None:
        given.append(helper.make_tensor_value_info("target", TensorProto.INT64, ["N"]))
        outputs.insert(0, helper.make_tensor_value_info("explain", TensorProto.FLOAT, images))
        nodes += _probe(method) if method in PROBES else _backward(method)
        given += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, _PROBE_SHAPES[name])
            for name in PROBES.get(method, ())
        ]
        if method == "input_x_gradient":
            outputs.append(helper.make_tensor_value_info("completeness_error", TensorProto.FLOAT, ["N"]))
    initializers = []
    for name, values in net.parameters.items():
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=values.shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.cwt")
        initializers.append(tensor)
    graph = helper.make_graph(nodes, "tiny", given, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def predict_graph(net: Network) -> bytes:
    """The network alone, its parameters outside."""
    return _graph(net, None)


def explain_graph(net: Network, method: str) -> bytes:
    """The network with one of ``METHODS``, its parameters outside."""
    return _graph(net, method)


def record_of(method: str) -> Explainer:
    """What the manifest says of one of ``METHODS``."""
    return Explainer(
        file=f"explain.{method}.onnx",
        method=method,
        target_rule="argmax",
        sign="signed",
        units="logit" if method == "input_x_gradient" else "logit per input unit",
        baseline="none",
        inputs=(),
        steps=1,
        settings={},
        gradient_ste=False,
        resolution="input",
        layer=None,
        map_shape=(-1, *SHAPE),
        completeness=method == "input_x_gradient",
        verification=Verification(2, 2, 1.0, 0.0, None, None, None, "passed"),
    )


def _null(scores: NDArray[np.float64]) -> NullDistribution:
    defined = scores[np.isfinite(scores)]
    return NullDistribution(
        mean=float(defined.mean()),
        std=float(defined.std(ddof=1)),
        quantiles=tuple(float(q) for q in np.quantile(defined, QUANTILE_LEVELS)),
        autocorrelation=(0.0,) * 5,
        runtime_floor=1e-6,
        samples=int(scores.size),
        undefined=int(scores.size - defined.size),
    )


def _summary(values: NDArray[np.float64]) -> Summary:
    return Summary(float(values.mean()), *(float(q) for q in np.quantile(values, [0.05, 0.5, 0.95])))


def measured(
    reference: Network, compressed: Network, budget: float, calibration: int
) -> tuple[Fidelity, Drift]:
    """Measure fidelity and null as an exporter would: on held-out clean inputs, honestly."""
    x = inputs(calibration, seed=10)
    target = reference.logits(x).argmax(axis=1)
    expected, found = reference.explain(x, target), compressed.explain(x, target)
    distances = {name: score(expected, found) for name, score in SCORES.items()}
    flips = (compressed.logits(x).argmax(axis=1) != target).astype(np.float64)
    similarity = {name: 1 - values[np.isfinite(values)] for name, values in distances.items()}
    undefined = int(np.isnan(distances["cosine"]).sum())
    fidelity = Fidelity(
        explainer=METHODS[0],
        samples=calibration,
        undefined=undefined,
        similarity={name: _summary(values) for name, values in similarity.items()},
        agreement=float(1 - flips.mean()),
        accuracy_drop=0.0,
        min_attribution_similarity=budget,
        max_accuracy_drop=0.01,
        retrain_floor=None,
        gap_closed=None,
        passed=float(similarity["cosine"].mean()) >= budget,
    )
    scores = {name: _null(values) for name, values in distances.items()} | {"disagreement": _null(flips)}
    score = distances["pooled_cosine"]
    classes = tuple(
        ClassNull(index, len(own), float(own.mean()), float(own.std()))
        for index in range(CLASSES)
        if len(own := score[(target == index) & np.isfinite(score)]) >= 30
    )
    return fidelity, Drift(METHODS[0], scores, classes)


def write(
    out: Path,
    *,
    version: str = "1",
    name: str = "tiny",
    share: float = 0.2,
    variant: str = "compressed",
    budget: float = 0.8,
    calibration: int = 400,
    preprocessing: Preprocessing = AS_IT_IS,
    explainers: tuple[str, ...] = METHODS,
    stored: Network | None = None,
    probes: tuple[str, ...] = (),
    more: Mapping[str, tuple[Explainer, bytes]] = MappingProxyType({}),
    change: Callable[[Manifest], Manifest] = lambda manifest: manifest,
) -> Path:
    """Write one artifact of the pruned (or, as reference, the whole) network.

    ``stored`` puts other weights into the file than the ones the canaries' answers come from; ``probes`` and ``more``
    add explainers, hand-made ones and any others with their records; ``change`` edits the manifest before it is hashed
    and written.
    """
    reference = network()
    compressed = pruned(reference, share)
    running = reference if variant == "reference" else compressed
    stored = stored or running
    weights = io.BytesIO()
    report = write_weights(weights, [CodedTensor(key, values) for key, values in stored.parameters.items()])
    raw = inputs(16, seed=20)
    if preprocessing.raw_datatype == "UINT8":
        raw = np.clip(raw * 100, 0, 255).astype(np.uint8)
    x = raw.astype(np.float32) * np.float32(preprocessing.scale)
    target = reference.logits(x).argmax(axis=1).astype(np.int64)
    maps = {
        side: net.explain(x, target, explainers[0]) if explainers else np.zeros(len(x))
        for side, net in (("reference", reference), ("compressed", compressed))
    }
    canaries = Canary(
        inputs=raw,
        target=target,
        logits_reference=reference.logits(x),
        logits_compressed=compressed.logits(x),
        maps_reference=maps["reference"].astype(np.float16),
        maps_compressed=maps["compressed"].astype(np.float16),
    )
    fidelity, drift = measured(reference, compressed, budget, calibration)
    manifest = Manifest(
        name=name,
        version=version,
        variant=variant,
        inputs=(TensorSpec("input", "FP32", (-1, *SHAPE)),),
        outputs=(TensorSpec("logits", "FP32", (-1, CLASSES)),),
        labels=tuple("abcde"),
        preprocessing=preprocessing,
        ledger=report.ledger(),
        reference_quality=Quality(0.9, None, None),
        compressed_quality=Quality(0.9, None, None),
        explainers={method: record_of(method) for method in explainers}
        | {method: probe_record(method) for method in probes}
        | {method: entry for method, (entry, _) in more.items()},
        default_explainer=explainers[0] if explainers else None,
        fidelity=fidelity if variant == "compressed" and explainers else None,
        integrity=IntegrityLimit(logits_atol=1e-4, map_cosine_min=0.9999, map_q999_max=5e-3),
        drift=drift if variant == "compressed" and explainers else None,
        canaries=Canaries("synthetic", len(raw)),
        splits={"calibration": hashlib.sha256(b"calibration").hexdigest()},
        environment={},
    )
    contents = {
        "predict.onnx": _graph(stored, None),
        **{f"explain.{method}.onnx": _graph(stored, method) for method in (*explainers, *probes)},
        **{entry.file: graph for entry, graph in more.values()},
        "weights.cwt": weights.getvalue(),
        "canaries.safetensors": canaries.to_bytes(),
    }
    return write_artifact(out, change(manifest), contents)


def write_pair(out: Path, **settings) -> Path:
    """Write an artifact and its reference beside it; returns the artifact."""
    common = {key: settings[key] for key in ("version", "name", "preprocessing") if key in settings}
    write(out, variant="reference", **common)
    return write(out, **settings)
