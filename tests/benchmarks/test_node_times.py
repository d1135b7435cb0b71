"""The account of a graph's nodes: which part each belongs to, and what they add up to."""

import numpy as np
import pytest
import torch

from benchmarks.node_times import NodeTime, node_times, part_of, read_profile, shares
from clearweight.exporter.explain import build
from clearweight.exporter.graph import to_onnx
from tests.exporter.explain.networks import Mlp


def test_parts_are_told_by_names_and_operators():
    assert part_of("conv1_nchwc", "Conv") == "forward"
    assert part_of("backward.conv_31_nchwc", "Conv") == "backward"
    assert part_of("ReorderInput_token_7", "ReorderInput") == "layout"


def event(name, operator, microseconds, kind="kernel_time"):
    return {"cat": "Node", "name": f"{name}_{kind}", "dur": microseconds, "args": {"op_name": operator}}


def test_the_median_of_each_node_counts_and_other_events_do_not():
    events = [
        *(event("fc1", "Gemm", value) for value in (9, 5, 100)),
        event("fc1", "Gemm", 70, "fence_before"),
        {"cat": "Session", "name": "model_run", "dur": 1000},
        event("backward.gemm_3", "Gemm", 20),
    ]

    found = read_profile(events)

    assert found == [
        NodeTime("fc1", "Gemm", "forward", 9e-6),
        NodeTime("backward.gemm_3", "Gemm", "backward", 20e-6),
    ]
    assert shares(found, 10e-6) == pytest.approx(
        {"all": 2.9, "forward": 0.9, "forward/Gemm": 0.9, "backward": 2.0, "backward/Gemm": 2.0}
    )


def test_a_graph_is_profiled_as_it_runs():
    torch.manual_seed(0)
    graph = build(to_onnx(Mlp(), torch.zeros(2, *Mlp.shape)), "gradient")
    feed = {"input": np.ones((1, *Mlp.shape), np.float32), "target": np.full(1, -1)}

    found = node_times(graph.model, [feed], threads=1, prepacked=graph.prepacked, seconds=0.0)

    assert sum("Gemm" in node.operator for node in found if node.part == "backward") == 2
    assert sum("Gemm" in node.operator for node in found if node.part == "forward") == 2
    assert all(node.seconds >= 0 for node in found)
