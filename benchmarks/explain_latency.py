"""What an explanation costs: logits and map in one run, against logits alone and against the peers.

One thread and two. Peers: Captum's InputXGradient in torch, and the same gradient exported by torch itself and run
in ONNX Runtime (``torch_gradient.py``). All contenders take turns on the same inputs; a ratio is the median over
the rounds of the ratio within one round, so that a machine that slows down slows down both sides, and turns are
short, so that most fall wholly before or after a disturbance. On one thread it is processor time that counts. Inputs
change from run to run: a branch predictor that has seen an input before flatters pooling by index.

A case is a network, a number of threads, a batch and a method. Where one misses its bar on one thread, the profiler's
account of its nodes follows, in multiples of what all nodes of predict take.
"""

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import captum.attr
import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks import torch_gradient
from benchmarks.networks import INPUT_SHAPES, network
from benchmarks.node_times import node_times, shares
from benchmarks.peak_memory import peak_increment
from benchmarks.row import Row
from benchmarks.turns import Clock, Function, take_turns
from clearweight.artifact import explain_inputs
from clearweight.exporter.explain import ExplainGraph, build
from clearweight.exporter.graph import session, to_onnx

# Network -> methods; Grad-CAM where the last feature map lies behind most of the network.
NETWORKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "lenet_5": ("input_x_gradient", "gradcam", "integrated_gradients"),
        "resnet_20": ("input_x_gradient", "gradcam", "integrated_gradients"),
        "resnet_18": ("input_x_gradient", "gradcam", "integrated_gradients"),
        "mobilenet_v2": ("input_x_gradient", "gradcam"),
        "vit_tiny": ("input_x_gradient",),
        "ecg_1d": ("input_x_gradient", "gradcam", "integrated_gradients"),
    }
)
BATCHES = (1, 16)
THREADS = (1, 2)
DEFAULT = "input_x_gradient"
FEATURES = "gradcam"
PATH = "integrated_gradients"
STEPS = 32
# What explain may take in multiples of predict, one thread; of Grad-CAM on every network.
BARS: Mapping[tuple[str, int], float] = MappingProxyType(
    {
        ("lenet_5", 1): 2.2,
        ("lenet_5", 16): 2.6,
        ("resnet_20", 1): 2.3,
        ("resnet_18", 1): 2.6,
        ("mobilenet_v2", 1): 4.0,
        ("vit_tiny", 1): 2.6,
    }
)
FEATURES_BAR = 1.15
PATH_BAR = 1.05  # in multiples of as many gradients in one batch as the path has steps
_INPUTS = 16
_LISTED = 10  # nodes
_LEAST_SHARE = 0.02  # of all nodes, for an operator to be listed


@dataclass(frozen=True, eq=False)
class Subject:
    """One network as every contender needs it."""

    name: str
    module: nn.Module
    predict: onnx.ModelProto
    shape: tuple[int, ...]

    def inputs(self, batch: int) -> NDArray[np.float32]:
        """Return inputs to take in turn, (count, batch, *shape)."""
        return np.random.default_rng(0).random((_INPUTS, batch, *self.shape), np.float32)


def run(data: Path | None, *, quick: bool, networks: Sequence[str] = tuple(NETWORKS)) -> Iterable[Row]:
    """Measure networks with every method, batch size and number of threads; needs no data."""
    del data
    unknown = sorted(set(networks) - set(NETWORKS))
    if unknown:
        raise ValueError(f"No network {unknown[0]!r}. Networks: {', '.join(NETWORKS)}.")
    with _quiet_export():
        for name in networks:
            methods = NETWORKS[name]
            module = network(name).requires_grad_(requires_grad=False)
            shape = INPUT_SHAPES[name]
            subject = Subject(name, module, to_onnx(module, torch.zeros(2, *shape)), shape)
            graphs = {method: build(subject.predict, method) for method in methods}
            for threads, batch in product(
                THREADS[:1] if quick else THREADS, BATCHES[:1] if quick else BATCHES
            ):
                with _torch_threads(threads):
                    for graph in graphs.values():
                        rows = list(_measured(subject, graph, threads, batch, quick=quick))
                        yield from rows
                        if threads == 1 and _missed(rows, name, batch, graph.method):
                            yield from _nodes(subject, graph, batch, quick=quick)


def _measured(
    subject: Subject, graph: ExplainGraph, threads: int, batch: int, *, quick: bool
) -> Iterator[Row]:
    if graph.method == PATH:
        if batch == 1:
            yield from _path(subject, graph, threads, quick=quick)
    elif graph.method == DEFAULT:
        yield from _against_peers(subject, graph, threads, batch, quick=quick)
    else:
        yield from _alone(subject, graph, threads, batch, quick=quick)


def _missed(rows: Sequence[Row], name: str, batch: int, method: str) -> bool:
    """Tell whether a case is above its bar."""
    metric = "over_batched_gradients" if method == PATH else "explain_over_predict"
    bars = {DEFAULT: BARS.get((name, batch)), FEATURES: FEATURES_BAR, PATH: PATH_BAR}
    bar = bars[method]
    return bar is not None and any(
        row.metric == metric and row.value is not None and row.value > bar for row in rows
    )


def _nodes(subject: Subject, graph: ExplainGraph, batch: int, *, quick: bool) -> Iterator[Row]:
    """Account for the time of a graph by part, by operator and by its slowest nodes."""
    inputs = subject.inputs(batch)
    extra = _extra(graph, inputs[0].shape)
    seconds = 1.0 if quick else 2.0
    plain = node_times(subject.predict, [{"input": x} for x in inputs], threads=1, seconds=seconds)
    found = node_times(
        graph.model,
        [{"input": x, **extra} for x in inputs],
        threads=1,
        prepacked=graph.prepacked,
        seconds=seconds,
    )
    unit = sum(node.seconds for node in plain)
    case = f"{_case(subject, 1, batch, graph.method)}/nodes"
    sums = shares(found, unit)
    for key, value in sorted(sums.items(), key=lambda entry: -entry[1]):
        if "/" not in key or value > _LEAST_SHARE * sums["all"]:
            yield Row("explain_latency", case, key, value, "x predict")
    slowest = sorted(found, key=lambda node: -node.seconds)[:_LISTED]
    for node in slowest:
        name = f"node {node.name} ({node.operator})"
        yield Row("explain_latency", case, name, node.seconds / unit, "x predict")


def _clock(threads: int) -> Clock:
    """Count processor time on one thread, which other work on the machine changes little; with more, wall time."""
    return time.process_time if threads == 1 else time.perf_counter


def _extra(graph: ExplainGraph, shape: tuple[int, ...]) -> dict[str, NDArray[np.generic]]:
    """Make what a graph takes beside the input, of these rows."""
    made = explain_inputs(graph.inputs, shape, steps=STEPS, seed=0, settings=graph.settings)
    return {**made, "target": np.full(shape[0], -1, np.int64)}


def _case(subject: Subject, threads: int, batch: int, method: str) -> str:
    return f"{subject.name}/t{threads}/b{batch}/{method}"


def _explainer(graph: ExplainGraph, threads: int, batch: int) -> Function:
    running = session(graph.model, threads=threads, prepacked=graph.prepacked)
    target = np.full(batch, -1, np.int64)

    def explain(x: NDArray[np.float32]) -> object:
        return running.run(None, {"input": x, "target": target})

    return explain


def _predictor(subject: Subject, threads: int) -> Function:
    running = session(subject.predict, threads=threads)
    return lambda x: running.run(None, {"input": x})


def _against_peers(
    subject: Subject, graph: ExplainGraph, threads: int, batch: int, *, quick: bool
) -> Iterator[Row]:
    """The default explainer beside predict, Captum and the gradient that torch exports."""
    inputs = subject.inputs(batch)
    exported = session(torch_gradient.export(subject.module, torch.from_numpy(inputs[0])), threads=threads)
    source = exported.get_inputs()[0].name
    captum_explainer = captum.attr.InputXGradient(subject.module)

    def by_captum(x: NDArray[np.float32]) -> object:
        leaf = torch.from_numpy(x).requires_grad_()
        with torch.no_grad():
            chosen = subject.module(leaf).argmax(dim=1)
        return captum_explainer.attribute(leaf, target=chosen)

    rounds = take_turns(
        {
            "predict": _predictor(subject, threads),
            "explain": _explainer(graph, threads, batch),
            "torch_export": lambda x: exported.run(None, {source: x}),
            "captum": by_captum,
        },
        inputs,
        seconds=1.5 if quick else 3.0,
        clock=_clock(threads),
    )
    values = _over_predict(rounds)
    values["captum_over_explain"] = (float(np.median(rounds["captum"] / rounds["explain"])), "ratio")
    values["torch_export_over_explain"] = (
        float(np.median(rounds["torch_export"] / rounds["explain"])),
        "ratio",
    )
    if threads == 1:
        peaks = _peaks(subject, graph, batch)
        values["explain_peak_over_predict_peak"] = (peaks["explain"] / peaks["predict"], "ratio")
    yield from _rows(_case(subject, threads, batch, graph.method), values)


def _alone(subject: Subject, graph: ExplainGraph, threads: int, batch: int, *, quick: bool) -> Iterator[Row]:
    """Another explainer beside predict."""
    rounds = take_turns(
        {"predict": _predictor(subject, threads), "explain": _explainer(graph, threads, batch)},
        subject.inputs(batch),
        seconds=1.5 if quick else 3.0,
        clock=_clock(threads),
    )
    yield from _rows(_case(subject, threads, batch, graph.method), _over_predict(rounds))


def _path(subject: Subject, graph: ExplainGraph, threads: int, *, quick: bool) -> Iterator[Row]:
    """Integrated gradients of one input beside as many gradients in one batch as it has steps."""
    # Packed weights are the faster ones for as many rows.
    gradient = _explainer(replace(build(subject.predict, "gradient"), prepacked=True), threads, STEPS)
    running = session(graph.model, threads=threads, prepacked=graph.prepacked)
    inputs = subject.inputs(1)
    extra = _extra(graph, inputs[0].shape)
    rounds = take_turns(
        {
            "batched": lambda x: gradient(np.repeat(x, STEPS, axis=0)),
            "explain": lambda x: running.run(None, {"input": x, **extra}),
            "predict": _predictor(subject, threads),
        },
        inputs,
        seconds=1.5 if quick else 3.0,
        clock=_clock(threads),
    )
    values = _over_predict(rounds)
    values["over_batched_gradients"] = (float(np.median(rounds["explain"] / rounds["batched"])), "ratio")
    yield from _rows(_case(subject, threads, 1, graph.method), values)


def _over_predict(rounds: dict[str, NDArray[np.float64]]) -> dict[str, tuple[float, str]]:
    over = rounds["explain"] / rounds["predict"]
    return {
        "explain_over_predict": (float(np.median(over)), "ratio"),
        "explain_over_predict_iqr": (float(np.subtract(*np.quantile(over, [0.75, 0.25]))), "ratio"),
        "explain_ms": (float(np.median(rounds["explain"])) * 1e3, "ms"),
        "predict_ms": (float(np.median(rounds["predict"])) * 1e3, "ms"),
    }


def _rows(case: str, values: dict[str, tuple[float, str]]) -> Iterator[Row]:
    for metric, (value, unit) in values.items():
        yield Row("explain_latency", case, metric, value, unit)


def _peaks(subject: Subject, graph: ExplainGraph, batch: int) -> dict[str, int]:
    """Return the memory that predict and explain need to load and run, bytes."""
    found = {}
    with TemporaryDirectory() as folder:
        for key, model in (("predict", subject.predict), ("explain", graph.model)):
            path = Path(folder) / f"{key}.onnx"
            path.write_bytes(model.SerializeToString())
            found[key] = peak_increment(path, (batch, *subject.shape))
    return found


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@contextmanager
def _quiet_export() -> Iterator[None]:
    """Keep torch's exporter from reporting its progress and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)
