import numpy as np

from clearweight.artifact import WeightsReader
from clearweight.exporter.emission import pack
from clearweight.exporter.graph import session, split_parameters
from clearweight.exporter.post_training import compress, gather
from tests.exporter.post_training.networks import cnn, exported, mlp, rows


def logits(model, x):
    running = session(model)
    return running.run(None, {running.get_inputs()[0].name: x})[0]


def test_what_is_stored_is_what_runs():
    model, x = exported(cnn(), (2, 10, 10)), rows(64, (2, 10, 10))
    made = compress(gather(model, x), 1e-6)
    stored = dict(WeightsReader(pack(made.tensors, "range")[0]).tensors())

    assert list(stored) == list(split_parameters(model)[1])
    for name, values in split_parameters(made.model)[1].items():
        assert np.array_equal(stored[name], values)
    for tensor in made.tensors:
        assert np.array_equal(tensor.values, tensor.values.astype(np.float16).astype(np.float32))


def test_a_small_multiplier_keeps_the_answers_and_a_larger_one_the_bytes():
    model, x = exported(mlp(), (16,)), rows(200, (16,))
    statistics = gather(model, x)
    fine, coarse = (compress(statistics, multiplier) for multiplier in (1e-9, 3e-3))
    error = [float(np.abs(logits(made.model, x) - logits(model, x)).max()) for made in (fine, coarse)]

    assert error[0] < 0.02 < error[1]
    assert len(pack(coarse.tensors)[0]) < 0.7 * len(pack(fine.tensors)[0])


def test_the_bias_makes_up_for_the_mean_that_is_lost():
    model, x = exported(mlp(), (16,)), rows(200, (16,)) + np.float32(1.0)
    statistics = gather(model, x)
    made = {tensor.name: tensor.values for tensor in compress(statistics, 3e-3).tensors}
    own = split_parameters(model)[1]
    layer = statistics.layers[0]
    before = x @ layer.matrix(own["1.weight"]).T + own["1.bias"]
    after = x @ layer.matrix(made["1.weight"]).T

    lost = np.abs((before - after - made["1.bias"]).mean(0)).max()
    assert lost < 2e-3
    assert np.abs((before - after - own["1.bias"]).mean(0)).max() > 10 * lost


def test_the_same_inputs_give_the_same_tensors():
    model, x = exported(cnn(), (2, 10, 10)), rows(40, (2, 10, 10))
    first, second = (compress(gather(model, x), 1e-5) for _ in range(2))

    assert all(np.array_equal(a.values, b.values) for a, b in zip(first.tensors, second.tensors, strict=True))
