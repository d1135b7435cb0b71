"""Measuring kernel choices on the machine at hand, in the graphs that will run there.

A kernel by itself says little: a convolution in the blocked layout is fast until its neighbours force a reorder. So
whole explain graphs are timed, one with each kernel of a class, the other classes at their best so far.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx

from clearweight.exporter.autodiff import COMMITTED, CostTable
from clearweight.exporter.device_profile import FAMILIES
from clearweight.exporter.explain import ExplainGraph, build
from clearweight.exporter.graph import session

METHOD = "input_x_gradient"
_LEAST_ROUNDS = 7


@dataclass(frozen=True)
class Choice:
    """One class of kernels, measured: kernel -> seconds of the whole graph, median."""

    family: str
    kind: str
    seconds: Mapping[str, float]

    @property
    def relative(self) -> dict[str, float]:
        """Times relative to the first kernel's, four digits."""
        first = next(iter(self.seconds.values()))
        return {kernel: float(f"{seconds / first:.4g}") for kernel, seconds in self.seconds.items()}


def tune(
    model: onnx.ModelProto,
    *,
    threads: int,
    batch: int,
    seconds: float,
    told: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> list[Choice]:
    """Time every kernel that the model's explain graph could use; classes that change nothing are left out.

    Parameters
    ----------
    model : classifier in the canonical form, parameters inside
    seconds : how long each class is timed
    told : called as (what, done, total)
    """
    classes = [(family, kind) for family in FAMILIES for kind in getattr(COMMITTED, family)]
    costs, found = COMMITTED, []
    for number, (family, kind) in enumerate(classes):
        told(f"{family} {kind}", number, len(classes))
        graphs = {
            kernel: build(model, METHOD, costs=_with(costs, family, kind, kernel))
            for kernel in getattr(COMMITTED, family)[kind]
        }
        if (
            len(
                {
                    (made.model.SerializeToString(deterministic=True), made.prepacked)
                    for made in graphs.values()
                }
            )
            == 1
        ):
            continue
        choice = Choice(family, kind, _timed(graphs, threads=threads, batch=batch, seconds=seconds))
        found.append(choice)
        costs = _with(costs, family, kind, min(choice.seconds, key=lambda kernel: choice.seconds[kernel]))
    told("done", len(classes), len(classes))
    return found


def _with(costs: CostTable, family: str, kind: str, kernel: str) -> CostTable:
    """Return the table with one kernel the cheapest of its class."""
    own = getattr(costs, family)
    forced = {name: 0.5 if name == kernel else 1.0 for name in own[kind]}
    return replace(costs, **{family: {**own, kind: forced}})


def _timed(
    graphs: Mapping[str, ExplainGraph], *, threads: int, batch: int, seconds: float
) -> dict[str, float]:
    """Run graphs in turn on the same random inputs; median seconds of one run."""
    running = {
        kernel: session(made.model, threads=threads, prepacked=made.prepacked)
        for kernel, made in graphs.items()
    }
    source = next(entry for entry in next(iter(running.values())).get_inputs() if entry.name != "target")
    x = np.random.default_rng(0).random((batch, *source.shape[1:]), np.float32)
    feed = {source.name: x, "target": np.full(batch, -1, np.int64)}
    for one in running.values():
        one.run(None, feed)  # plans memory
    times: dict[str, list[float]] = {kernel: [] for kernel in running}
    until = time.perf_counter() + seconds
    while len(times[next(iter(times))]) < _LEAST_ROUNDS or time.perf_counter() < until:
        for kernel, one in running.items():
            started = time.perf_counter()
            one.run(None, feed)
            times[kernel].append(time.perf_counter() - started)
    return {kernel: statistics.median(values) for kernel, values in times.items()}
