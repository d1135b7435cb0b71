"""Which sessions are told to leave weights as they are."""

from dataclasses import replace

import pytest

from clearweight.exporter.autodiff import COMMITTED
from clearweight.exporter.explain import build
from clearweight.exporter.explain.prepacking import mostly_dense
from clearweight.exporter.graph import session


@pytest.mark.parametrize(
    ("network", "method", "dense"),
    [
        ("mlp", "gradient", True),
        ("mlp", "input_x_gradient", True),
        ("mlp", "integrated_gradients", False),  # the rows of a path share one read of the weights
        ("mlp", "rise", False),  # many masks, and no way back
        ("residual", "gradient", False),  # convolutions
    ],
)
def test_full_layers_that_single_rows_read_both_ways(named, network, method, dense):
    graph = build(named(network).model, method)

    assert mostly_dense(graph.model, rows=graph.steps) == dense
    assert graph.prepacked != dense


def test_the_cost_table_decides(named):
    for kernel, packed in (("packed", True), ("plain", False)):
        costs = {name: 0.5 if name == kernel else 1.0 for name in ("packed", "plain")}
        table = replace(COMMITTED, prepacking={"dense": costs, "other": costs})

        assert build(named("mlp").model, "gradient", costs=table).prepacked == packed
        assert build(named("residual").model, "gradient", costs=table).prepacked == packed


def test_the_option_reaches_the_runtime(named):
    key = "session.disable_prepacking"
    plain = session(named("mlp").model, prepacked=False).get_session_options()

    assert plain.get_session_config_entry(key) == "1"
    with pytest.raises(RuntimeError, match=key):
        session(named("mlp").model).get_session_options().get_session_config_entry(key)
