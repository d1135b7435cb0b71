"""Folding in torch: the same function, the same class, the same names."""

import copy

import pytest
import torch
from torch import nn

from clearweight.exporter.graph import FoldingError, fold_batchnorm


def largest_difference(module, folded, images):
    with torch.no_grad():
        return (module.eval()(images) - folded(images)).abs().max().item()


def batch_norms(module):
    return [
        name for name, child in module.named_modules() if isinstance(child, nn.modules.batchnorm._BatchNorm)
    ]


def test_residual_network_keeps_its_function(residual_cnn):
    module, images = residual_cnn

    folded = fold_batchnorm(module)

    assert largest_difference(module, folded, images) < 1e-5
    assert batch_norms(folded) == []


def test_class_and_weight_names_survive_and_convolutions_gain_a_bias(residual_cnn):
    module, _ = residual_cnn
    before = {
        name for name, _ in module.named_parameters() if ".bn" not in name and not name.startswith("bn")
    }

    folded = fold_batchnorm(module)
    after = {name for name, _ in folded.named_parameters()}

    assert type(folded) is type(module)
    assert after - before == {
        "conv1.bias",
        "layers.0.conv1.bias",
        "layers.0.conv2.bias",
        "layers.1.conv1.bias",
        "layers.1.conv2.bias",
    }
    assert before <= after


def test_argument_is_left_untouched(residual_cnn):
    module, _ = residual_cnn
    module.train()
    before = copy.deepcopy(module.state_dict())

    fold_batchnorm(module)

    assert module.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("linear", "norm", "shape"),
    [
        (nn.Conv1d(3, 4, 3, bias=True), nn.BatchNorm1d(4), (5, 3, 9)),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), nn.BatchNorm2d(6), (5, 4, 7, 7)),
        (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), (2, 2, 4, 4, 4)),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (5, 4, 5, 5)),
        (nn.ConvTranspose1d(4, 3, 3, stride=2, bias=False), nn.BatchNorm1d(3), (5, 4, 5)),
        (nn.Linear(6, 4), nn.BatchNorm1d(4, affine=False), (5, 6)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_each_kind_of_pair_is_merged_exactly(linear, norm, shape, stirred):
    module = stirred(nn.Sequential(linear, norm, nn.ReLU())).eval()
    images = torch.randn(shape)

    folded = fold_batchnorm(module)

    assert isinstance(folded[1], nn.Identity)
    assert largest_difference(module, folded, images) < 1e-5


def test_merged_weights_follow_the_formula_one_channel_at_a_time(stirred):
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=0.1)
    folded = fold_batchnorm(stirred(nn.Sequential(conv, norm)).eval())

    for channel in range(3):
        scale = norm.weight[channel].item() / (norm.running_var[channel].item() + 0.1) ** 0.5
        bias = (conv.bias[channel].item() - norm.running_mean[channel].item()) * scale + norm.bias[
            channel
        ].item()
        assert folded[0].bias[channel].item() == pytest.approx(bias, rel=1e-5, abs=1e-6)
        assert torch.allclose(folded[0].weight[channel], conv.weight[channel] * scale, rtol=1e-6)


class Forked(nn.Module):
    """The convolution's own output is used beside the normalised one."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2)

    def forward(self, x):
        h = self.conv(x)
        return (h + self.bn(h)).flatten(1)


class OnceBare(nn.Module):
    """One convolution called twice, normalised once."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x):
        return self.bn(self.conv(self.conv(x))).flatten(1)


class PreActivation(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(1)
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        return self.conv(torch.relu(self.bn(x))).flatten(1)


@pytest.mark.parametrize("kind", [Forked, OnceBare, PreActivation])
def test_what_cannot_be_merged_stays(kind, stirred):
    module = stirred(kind()).eval()
    images = torch.randn(3, 1, 6, 6)

    folded = fold_batchnorm(module)

    assert batch_norms(folded) == ["bn"]
    assert largest_difference(module, folded, images) == 0.0


class Branching(nn.Module):
    """Its way depends on a number, so symbolic tracing fails and capture succeeds."""

    def __init__(self, *, normalised=True):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.bn = nn.BatchNorm2d(2) if normalised else nn.Identity()

    def forward(self, x):
        h = self.bn(self.conv(x))
        if h.shape[1] > 1:
            h = torch.relu(h)
        return h.flatten(1)


def test_untraceable_module_without_batchnorm_passes():
    module = Branching(normalised=False).eval()
    images = torch.randn(3, 1, 6, 6)

    assert largest_difference(module, fold_batchnorm(module), images) == 0.0


def test_untraceable_module_is_captured_on_an_example(stirred):
    module = stirred(Branching()).eval()
    images = torch.randn(3, 1, 6, 6)

    folded = fold_batchnorm(module, images)

    assert batch_norms(folded) == []
    assert largest_difference(module, folded, images) < 1e-5


def test_untraceable_module_without_example_is_a_named_error():
    with pytest.raises(FoldingError, match=r"torch\.fx cannot trace"):
        fold_batchnorm(Branching())


class DataDependent(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x):
        return self.bn(x) if x.sum().item() > 0 else x


def test_module_that_nothing_can_trace_is_a_named_error():
    with pytest.raises(FoldingError, match=r"neither torch.fx nor torch.export"):
        fold_batchnorm(DataDependent(), torch.randn(2, 1, 4, 4))


def test_batchnorm_without_running_statistics_is_a_named_error():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False))

    with pytest.raises(FoldingError, match="'1' keeps no running statistics"):
        fold_batchnorm(module)
