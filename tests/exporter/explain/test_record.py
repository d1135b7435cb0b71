from clearweight.artifact import Verification
from clearweight.exporter.explain import build
from clearweight.exporter.explain.record import graph_of, record

STATED = Verification(2, 2, 1.0, 0.0, None, None, None, "passed")


def test_a_graph_and_its_record_say_the_same(named):
    for method in ("input_x_gradient", "gradcam", "occlusion", "rise"):
        graph = build(named("cnn").model, method)
        entry = record(graph, STATED)

        again = graph_of(entry, graph.model)

        assert record(again, STATED) == entry
        assert (entry.method, entry.layer, entry.map_shape) == (method, graph.layer, graph.map_shape)
        assert all(type(value) is float for value in entry.settings.values())
        for name in vars(graph):
            assert getattr(again, name) == getattr(graph, name)
