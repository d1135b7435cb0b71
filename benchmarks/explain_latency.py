"""What an explanation costs: logits and map in one run, against logits alone and against the peers.

One thread. Peers: Captum's InputXGradient in torch, and the same gradient exported by torch itself and run in ONNX
Runtime (``torch_gradient.py``). All contenders take turns on the same inputs; a ratio is the median over the rounds of
the ratio within one round, so that a machine that slows down slows down both sides, and turns are short, so that most
fall wholly before or after a disturbance. Inputs change from run to run: a branch predictor that has seen an input
before flatters pooling by index.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import captum.attr
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import torch_gradient
from benchmarks.networks import INPUT_SHAPES, network
from benchmarks.peak_memory import peak_increment
from benchmarks.row import Row
from clearweight.exporter.explain import build
from clearweight.exporter.graph import session, to_onnx

NETWORKS = ("lenet_5", "resnet_20")
BATCHES = (1, 16)
METHOD = "input_x_gradient"
THREADS = 1
_INPUTS = 64

# Timed once per call; takes its next input by itself.
Contender = Callable[[], object]


def run(data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Measure every network and batch size; no data is needed."""
    del data
    with _one_torch_thread(), _quiet_export():
        for name in NETWORKS:
            for batch in BATCHES:
                yield from _measure(name, batch, quick=quick)


def _measure(name: str, batch: int, *, quick: bool) -> Iterator[Row]:
    module = network(name).requires_grad_(requires_grad=False)
    shape = (batch, *INPUT_SHAPES[name])
    inputs = np.random.default_rng(0).random((_INPUTS, *shape), np.float32)
    predict_model = to_onnx(module, torch.zeros(2, *INPUT_SHAPES[name]))
    explain_model = build(predict_model, METHOD).model
    target = np.full(batch, -1, np.int64)
    predict, explain = session(predict_model, threads=THREADS), session(explain_model, threads=THREADS)
    exported = session(torch_gradient.export(module, torch.from_numpy(inputs[0])), threads=THREADS)
    source = exported.get_inputs()[0].name
    captum_explainer = captum.attr.InputXGradient(module)

    def by_captum(x: NDArray[np.float32]) -> object:
        leaf = torch.from_numpy(x).requires_grad_()
        with torch.no_grad():
            chosen = module(leaf).argmax(dim=1)
        return captum_explainer.attribute(leaf, target=chosen)

    contenders = {
        "predict": lambda x: predict.run(None, {"input": x}),
        "explain": lambda x: explain.run(None, {"input": x, "target": target}),
        "torch_export": lambda x: exported.run(None, {source: x}),
        "captum": by_captum,
    }
    rounds = interleaved(
        {key: _over(function, inputs) for key, function in contenders.items()},
        rounds=25 if quick else 150,
        seconds=0.01,
    )
    with TemporaryDirectory() as folder:
        peaks = {}
        for key, model in (("predict", predict_model), ("explain", explain_model)):
            path = Path(folder) / f"{key}.onnx"
            path.write_bytes(model.SerializeToString())
            peaks[key] = float(np.median([peak_increment(path, shape) for _ in range(1 if quick else 5)]))

    case = f"{name}/t{THREADS}/b{batch}/{METHOD}"
    over_predict = rounds["explain"] / rounds["predict"]
    values = {
        "explain_over_predict": (float(np.median(over_predict)), "ratio"),
        "explain_over_predict_iqr": (float(np.subtract(*np.quantile(over_predict, [0.75, 0.25]))), "ratio"),
        "captum_over_explain": (float(np.median(rounds["captum"] / rounds["explain"])), "ratio"),
        "torch_export_over_explain": (float(np.median(rounds["torch_export"] / rounds["explain"])), "ratio"),
        "explain_peak_over_predict_peak": (peaks["explain"] / peaks["predict"], "ratio"),
        "explain_ms": (float(np.median(rounds["explain"])) * 1e3, "ms"),
        "predict_ms": (float(np.median(rounds["predict"])) * 1e3, "ms"),
    }
    for metric, (value, unit) in values.items():
        yield Row("explain_latency", case, metric, value, unit)


def _over(function: Callable[[NDArray[np.float32]], object], inputs: NDArray[np.float32]) -> Contender:
    """Give a function the inputs in turn."""
    following = cycle(inputs)
    return lambda: function(next(following))


def interleaved(
    contenders: dict[str, Contender], *, rounds: int, seconds: float
) -> dict[str, NDArray[np.float64]]:
    """Time contenders in turn; seconds per call, one entry per round.

    Parameters
    ----------
    seconds : how long each contender runs in each round
    """
    counts = {}
    for key, contender in contenders.items():
        contender()  # the first call plans memory
        counts[key] = max(1, int(seconds / _seconds(contender, 3)))
    found: dict[str, list[float]] = {key: [] for key in contenders}
    for _ in range(rounds):
        for key, contender in contenders.items():
            found[key].append(_seconds(contender, counts[key]))
    return {key: np.array(times) for key, times in found.items()}


def _seconds(contender: Contender, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        contender()
    return (time.perf_counter() - start) / count


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
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
