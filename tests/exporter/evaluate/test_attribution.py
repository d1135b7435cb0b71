"""Each map again, one image and one number at a time."""

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

from clearweight.exporter.errors import DataError
from clearweight.exporter.evaluate import (
    gradient,
    input_x_gradient,
    integrated_gradients,
    logits,
    occlusion,
    sensitivity_weighted,
    top_class,
)


def test_gradient_is_the_slope_of_the_logit(reference, images, targets):
    found = gradient(reference, images, targets)
    exact, points = reference.double(), images.double()
    step = 1e-6
    place = (1, 3, 7)

    for index in range(len(images)):
        lower, upper = points[index].clone(), points[index].clone()
        lower[place] -= step
        upper[place] += step
        with torch.no_grad():
            values = exact(torch.stack([lower, upper]))[:, targets[index]]
        assert found[(index, *place)] == pytest.approx(
            ((values[1] - values[0]) / (2 * step)).item(), abs=1e-5
        )


def test_maps_are_float32_of_the_inputs_shape(reference, images, targets):
    for method in (gradient, input_x_gradient, integrated_gradients):
        assert method(reference, images, targets).shape == images.shape
        assert method(reference, images, targets).dtype == np.float32
    assert occlusion(reference, images, targets).shape == (9, 6, 10)
    assert occlusion(reference, images, targets).dtype == np.float32


def test_input_x_gradient_and_bias_add_up_on_a_linear_model(images, targets):
    module = nn.Sequential(nn.Flatten(), nn.Linear(120, 4))

    found = input_x_gradient(module, images, targets)

    with torch.no_grad():
        score = module(images).numpy()[np.arange(9), targets]
    assert np.allclose(found.sum((1, 2, 3)) + module[1].bias.detach().numpy()[targets], score, atol=1e-5)


def test_integrated_gradients_equals_captum(reference, images, targets):
    expected = captum.attr.IntegratedGradients(reference).attribute(
        images, target=torch.from_numpy(targets), n_steps=32, method="gausslegendre"
    )

    assert np.abs(integrated_gradients(reference, images, targets) - expected.detach().numpy()).max() < 1e-5


def test_integrated_gradients_add_up_to_the_change_of_the_logit(images, targets):
    torch.manual_seed(34)
    smooth = nn.Sequential(nn.Flatten(), nn.Linear(120, 10), nn.Tanh(), nn.Linear(10, 4))

    with torch.no_grad():
        change = (smooth(images) - smooth(torch.zeros_like(images))).numpy()[np.arange(9), targets]

    assert np.allclose(integrated_gradients(smooth, images, targets).sum((1, 2, 3)), change, atol=1e-4)


def slow_occlusion(module, image, target, windows):
    """Average, at each position, of what each window that covers it takes away."""
    total, count = np.zeros(image.shape[1:]), np.zeros(image.shape[1:])
    with torch.no_grad():
        whole = module(image[None])[0, target].item()
        for window in windows:
            hidden = image.clone()
            hidden[(slice(None), *window)] = 0
            total[window] += whole - module(hidden[None])[0, target].item()
            count[window] += 1
    return total / count


def test_occlusion_of_images_moves_four_by_four_windows_by_two(reference, images, targets):
    windows = [(slice(r, r + 4), slice(c, c + 4)) for r in (0, 2) for c in (0, 2, 4, 6)]

    found = occlusion(reference, images, targets)

    for index in range(len(images)):
        expected = slow_occlusion(reference, images[index], targets[index], windows)
        assert np.abs(found[index] - expected).max() < 1e-5


def test_occlusion_equals_captum_where_windows_fit(reference, images, targets):
    expected = captum.attr.Occlusion(reference).attribute(
        images, sliding_window_shapes=(2, 4, 4), strides=(2, 2, 2), target=torch.from_numpy(targets)
    )

    assert np.abs(occlusion(reference, images, targets) - expected[:, 0].detach().numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("length", "starts"), [(16, (0, 4, 8)), (18, (0, 4, 8, 10)), (8, (0,)), (5, (0,)), (9, (0, 1))]
)
def test_occlusion_of_signals_moves_windows_of_eight_and_ends_at_the_edge(length, starts):
    torch.manual_seed(35)
    module = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    signals, targets = torch.randn(3, 2, length), np.array([0, 1, 2])
    module(signals)
    windows = [(slice(start, start + 8),) for start in starts]

    found = occlusion(module, signals, targets)

    for index in range(3):
        expected = slow_occlusion(module, signals[index], targets[index], windows)
        assert np.abs(found[index] - expected).max() < 1e-5


def test_flat_inputs_are_signals_without_channels():
    module = nn.Linear(12, 2)
    vectors = torch.randn(4, 12)

    assert occlusion(module, vectors, np.zeros(4, np.int64)).shape == (4, 12)


def test_results_do_not_depend_on_how_many_images_are_asked_for(reference, targets):
    many = torch.randn(600, 2, 6, 10)
    classes = np.resize(targets, 600)

    for method in (gradient, integrated_gradients, occlusion):
        whole = method(reference, many, classes)
        assert np.abs(whole[250:260] - method(reference, many[250:260], classes[250:260])).max() < 1e-5


@pytest.mark.parametrize("layer", ["conv", "pool"])
def test_sensitivity_weighted_map_follows_the_paper(reference, images, targets, layer):
    found = sensitivity_weighted(reference, images, targets, layer)

    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        features = reference.conv(image[None])
        if layer == "conv":
            features.retain_grad()
            score = reference.fc(reference.pool(torch.relu(features)).flatten(1))[0, target]
        else:
            features = reference.pool(torch.relu(features))
            features.retain_grad()
            score = reference.fc(features.flatten(1))[0, target]
        score.backward()
        expected = np.zeros(features.shape[2:])
        for channel in range(5):
            alpha = features.grad[0, channel].sum().item()
            expected += alpha * features[0, channel].detach().numpy()
        assert np.abs(found[index] - np.maximum(expected, 0)).max() < 1e-4


def test_the_last_call_of_a_layer_counts(targets):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = nn.MaxPool2d(2)
            self.fc = nn.Linear(8, 4)

        def forward(self, x):
            return self.fc(self.pool(self.pool(x)).flatten(1))

    maps = sensitivity_weighted(Twice(), torch.randn(9, 2, 8, 8), targets, "pool")

    assert maps.shape == (9, 2, 2)


def test_unknown_or_flat_layer_is_a_named_error(reference, images, targets):
    with pytest.raises(DataError, match=r"No layer 'conv7'.*conv, pool, fc"):
        sensitivity_weighted(reference, images, targets, "conv7")
    with pytest.raises(DataError, match=r"Layer 'fc' gives \(9, 4\)"):
        sensitivity_weighted(reference, images, targets, "fc")


def test_a_target_for_each_image_is_demanded(reference, images, targets):
    with pytest.raises(DataError, match="8 targets for 9 images"):
        gradient(reference, images, targets[:8])


def test_top_class_takes_the_lower_index_on_ties(reference, images):
    assert np.array_equal(top_class(reference, images), logits(reference, images).argmax(1))
    even = nn.Linear(3, 4)
    nn.init.zeros_(even.weight)
    nn.init.zeros_(even.bias)
    assert top_class(even, torch.randn(5, 3)).tolist() == [0] * 5
