"""`structured`: whether structure that was taken out of a network really makes it faster in ONNX Runtime.

Every case runs beside its dense form, in turn, so that the ratio counts. Speed does not depend on what the weights are,
so the networks have seeded random weights; what structure costs in accuracy is the `compression` benchmark's question.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.networks import INPUT_SHAPES, network
from benchmarks.row import Row
from benchmarks.turns import take_turns
from clearweight.exporter.compress import coded_tensors
from clearweight.exporter.compress.constraint import put, value_of
from clearweight.exporter.compress.mpd import BlockMask, dealt
from clearweight.exporter.compress.prune_filters import layers_of, magnitudes, mask_filters, weakest_by_cost
from clearweight.exporter.graph import fold_batchnorm, session, to_onnx
from clearweight.exporter.graph.channel_rules import channels
from clearweight.exporter.restructure import restructure

BENCH = "structured"
FILTERED = ("lenet_5", "resnet_20", "resnet_18", "mobilenet_v2", "ecg_1d")
BATCHES = (1, 16)
MULTIPLE = 8
BLOCKS = 10
BLOCK_BATCHES = (1, 16, 64)
SECONDS = 20.0


def deployed(model: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """Return the graph of a constrained module as it ships."""
    return restructure(model, to_onnx(model, example), coded_tensors(model)).model


def without_filters(name: str, macs: float) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """Return a network whole and with the weakest channels gone, down to a share of its multiply-accumulates."""
    example = torch.zeros(2, *INPUT_SHAPES[name])
    model = fold_batchnorm(network(name), example)
    whole = to_onnx(model, example)
    layers = layers_of(model, example)
    mask_filters(model, layers, weakest_by_cost(layers, magnitudes(model, layers), macs, MULTIPLE))
    return whole, deployed(model, example)


def in_blocks(model: nn.Module, example: torch.Tensor, weights: Sequence[str]) -> tuple[onnx.ModelProto, ...]:
    """Return a network dense and with linear layers in ten permuted blocks."""
    whole = to_onnx(model, example)
    draws = torch.Generator().manual_seed(0)
    for name in weights:
        rows, columns = (
            dealt(n, BLOCKS, torch.randperm(n, generator=draws)) for n in value_of(model, name).shape
        )
        put(model, name, BlockMask(rows, columns))
    return whole, deployed(model, example)


def blocked_networks() -> Iterator[tuple[str, onnx.ModelProto, onnx.ModelProto]]:
    """Yield LeNet-300-100 and its wide layers one by one (each with its activation), dense and in blocks."""
    whole = network("lenet_300_100")
    dense, own = in_blocks(
        whole, torch.zeros(2, *INPUT_SHAPES["lenet_300_100"]), ("fc1.weight", "fc2.weight")
    )
    yield "lenet_300_100", dense, own
    for name, inputs, outputs in (("fc1", 784, 300), ("fc2", 300, 100)):
        layer = nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU()).eval()
        dense, own = in_blocks(layer, torch.zeros(2, inputs), ("0.weight",))
        yield f"lenet_300_100_{name}", dense, own


def speed(dense: onnx.ModelProto, own: onnx.ModelProto, batch: int, seconds: float) -> NDArray[np.float64]:
    """Return dense over own of the times per run, one ratio for each turn; one thread."""
    shape = [dim.dim_value for dim in dense.graph.input[0].type.tensor_type.shape.dim[1:]]
    inputs = np.random.default_rng(0).random((4, batch, *shape), np.float32)
    sessions = {"dense": session(dense, threads=1), "own": session(own, threads=1)}
    feed = dense.graph.input[0].name
    times = take_turns(
        {key: lambda x, running=running: running.run(None, {feed: x}) for key, running in sessions.items()},
        inputs,
        seconds=seconds,
    )
    return np.asarray(times["dense"] / times["own"])


def compared(
    case: str, dense: onnx.ModelProto, own: onnx.ModelProto, batch: int, seconds: float
) -> Iterator[Row]:
    """Yield the rows of one case."""
    ratios = speed(dense, own, batch, seconds)
    low, high = np.quantile(ratios, [0.25, 0.75])
    figures = {"speed_over_dense": statistics.median(ratios.tolist()), "speed_q25": low, "speed_q75": high}
    for metric, value in figures.items():
        yield Row(BENCH, f"{case}/b{batch}", metric, float(value), "1")


def run(_data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Measure every case."""
    seconds = 1.0 if quick else SECONDS
    for name in FILTERED[:2] if quick else FILTERED:
        dense, own = without_filters(name, 0.5)
        share = channels(own).multiply_accumulates() / channels(dense).multiply_accumulates()
        yield Row(BENCH, f"filters/{name}", "macs_over_dense", share, "1")
        for batch in BATCHES:
            yield from compared(f"filters/{name}", dense, own, batch, seconds)
    for name, dense, own in blocked_networks():
        for batch in BLOCK_BATCHES:
            yield from compared(f"mpd/{name}", dense, own, batch, seconds)
