import captum.attr
import numpy as np
import pytest
import torch

from clearweight.exporter.explain import NotApplicableError, build
from tests.exporter.explain.perturbing import inputs_of, predict, run


def slow_draws(network, x, target, noise, sigma):
    """Gradients of one row and one draw at a time, (rows, S, *row)."""
    return np.stack(
        [
            np.concatenate(
                [
                    network.gradient(
                        (row + sigma * (row.max() - row.min()) * one)[None].astype(np.float32), [c]
                    )
                    for one in noise
                ]
            )
            for row, c in zip(x, target, strict=True)
        ]
    ).astype(np.float64)


@pytest.mark.parametrize("name", ["mlp", "cnn", "wave"])
@pytest.mark.parametrize("sigma", [0.15, 0.4])
def test_smoothgrad_is_the_mean_and_vargrad_the_variance_of_the_draws(named, name, sigma):
    network = named(name)
    x, target = (
        network.samples(3) * np.array([1, 3, 0.2]).reshape(-1, *[1] * len(network.module.shape)),
        [1, 0, 2],
    )
    x = x.astype(np.float32)
    for method, reduce in (("smoothgrad", np.mean), ("vargrad", np.var)):
        graph = build(network.model, method, settings={"sigma": sigma})
        inputs = inputs_of(graph, x, target, steps=6)
        got = run(graph, inputs)
        draws = slow_draws(network, x, target, inputs["noise"], sigma)

        np.testing.assert_allclose(got["explain"], reduce(draws, axis=1), rtol=1e-3, atol=2e-6)
        np.testing.assert_allclose(got["logits"], predict(network.model, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["smoothgrad", "vargrad"])
def test_it_is_captums_noise_tunnel_given_the_same_noise_and_its_absolute_width(named, method):
    network = named("cnn")
    x = network.samples(1)
    graph = build(network.model, method)
    width = float(graph.settings["sigma"] * (x.max() - x.min()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(network.module))
        expected = tunnel.attribute(
            torch.tensor(x), target=1, nt_type=method, nt_samples=10, stdevs=width, abs=False
        )
        torch.manual_seed(4)
        noise = torch.normal(0, torch.full((10, *x.shape[1:]), width)).numpy() / width
    got = run(graph, {**inputs_of(graph, x, [1]), "noise": noise})

    np.testing.assert_allclose(got["explain"], expected.detach(), rtol=1e-3, atol=1e-7)


def test_the_arg_max_without_noise_is_explained(named):
    network = named("mlp")
    x = network.samples(6)
    graph = build(network.model, "smoothgrad", settings={"sigma": 2.0})
    best = predict(network.model, x).argmax(1)

    np.testing.assert_array_equal(
        run(graph, inputs_of(graph, x, np.full(6, -1)))["explain"],
        run(graph, inputs_of(graph, x, best))["explain"],
    )


def test_a_constant_row_gets_no_noise(named):
    network = named("cnn")
    x = np.full((1, *network.module.shape), 0.3, np.float32)
    smooth, spread = (build(network.model, method) for method in ("smoothgrad", "vargrad"))

    np.testing.assert_allclose(
        run(smooth, inputs_of(smooth, x, [1]))["explain"], network.gradient(x, [1]), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(run(spread, inputs_of(spread, x, [1]))["explain"], 0, atol=1e-12)


@pytest.mark.parametrize("sigma", [0, -1, float("nan")])
def test_a_width_that_is_none_is_refused(named, sigma):
    with pytest.raises(NotApplicableError, match="above 0"):
        build(named("mlp").model, "smoothgrad", settings={"sigma": sigma})
