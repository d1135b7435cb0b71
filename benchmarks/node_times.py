"""Where the time of a graph goes, node by node, as ONNX Runtime's own profiler sees it.

The profiler adds a microsecond or two to each node, so that graphs of many small nodes look slower than they are. Nodes
that the runtime adds to change between the plain and the blocked layout of convolutions are counted by themselves.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort

Part = Literal["forward", "backward", "layout"]

_SUFFIX = "_kernel_time"
_BACKWARD = "backward."  # how every node that an explainer adds is called
_LEAST_RUNS = 7


@dataclass(frozen=True)
class NodeTime:
    """One node of the graph that the runtime made of a model: seconds per run, median."""

    name: str
    operator: str
    part: Part
    seconds: float


def node_times(
    model: onnx.ModelProto,
    feeds: Sequence[dict[str, Any]],
    *,
    threads: int,
    prepacked: bool = True,
    seconds: float = 3.0,
) -> list[NodeTime]:
    """Profile a model on inputs taken in turn, in the order in which its nodes run."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not prepacked:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_profiling = True
    with TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        until, runs = time.perf_counter() + seconds, 0
        while runs < _LEAST_RUNS or time.perf_counter() < until:
            session.run(None, feeds[runs % len(feeds)])
            runs += 1
        return read_profile(json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")))


def read_profile(events: Sequence[dict[str, Any]]) -> list[NodeTime]:
    """Take the median of every node over the runs of a profile."""
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            key = event["name"].removesuffix(_SUFFIX), event["args"]["op_name"]
            times.setdefault(key, []).append(event["dur"] / 1e6)
    return [NodeTime(*key, part_of(*key), float(np.median(values))) for key, values in times.items()]


def part_of(name: str, operator: str) -> Part:
    """Tell which part of an explanation a node belongs to."""
    if operator.startswith("Reorder"):
        return "layout"
    return "backward" if _BACKWARD in name else "forward"


def shares(nodes: Sequence[NodeTime], unit: float) -> dict[str, float]:
    """Sum the times in multiples of ``unit`` seconds: whole, by part, and by part and operator."""
    found: dict[str, float] = {}
    for node in nodes:
        for key in ("all", node.part, f"{node.part}/{node.operator}"):
            found[key] = found.get(key, 0.0) + node.seconds / unit
    return found
