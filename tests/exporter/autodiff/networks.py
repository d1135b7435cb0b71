"""Small instances of the networks people deploy: the real building blocks at a width and depth that test in seconds.

Each block is that of the paper named in its class; only sizes are reduced. Weights are seeded, BatchNorm statistics
too, so that nothing is zero or symmetric.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


def norm_conv(channels_in, channels, kernel=1, stride=1, groups=1, activation=nn.ReLU):
    """Convolution, batch norm, activation."""
    layers = [
        nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(*layers, *([activation()] if activation else []))


def head(channels, classes=5):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class SqueezeExcite(nn.Module):
    """Gate each channel by a function of all channels' means (Hu et al., CVPR 2018)."""

    def __init__(self, channels, squeezed, activation, gate):
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.activation, self.gate = activation(), gate()

    def forward(self, x: Tensor) -> Tensor:
        s = functional.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.expand(self.activation(self.reduce(s))))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (Sandler et al., CVPR 2018); with squeeze-excite that of V3 and of EfficientNet's MBConv."""

    def __init__(
        self, channels_in, channels, *, expansion=4, kernel=3, stride=1, activation=nn.ReLU6, gate=None
    ):
        super().__init__()
        wide = channels_in * expansion
        layers = [norm_conv(channels_in, wide, activation=activation)]
        layers.append(norm_conv(wide, wide, kernel, stride, groups=wide, activation=activation))
        if gate is not None:
            inner = nn.SiLU if activation is nn.SiLU else nn.ReLU
            layers.append(SqueezeExcite(wide, max(2, wide // 4), inner, gate))
        layers.append(norm_conv(wide, channels, activation=None))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobilenet_v2():
    return nn.Sequential(
        norm_conv(3, 8, 3, 2, activation=nn.ReLU6),
        InvertedResidual(8, 8),
        InvertedResidual(8, 12, stride=2),
        InvertedResidual(12, 12),
        norm_conv(12, 24, activation=nn.ReLU6),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(24, 5),
    )


def mobilenet_v3():
    """Howard et al., ICCV 2019: hard swish, hard sigmoid gates, 5x5 depthwise."""
    return nn.Sequential(
        norm_conv(3, 8, 3, 2, activation=nn.Hardswish),
        InvertedResidual(8, 8, activation=nn.ReLU, gate=nn.Hardsigmoid),
        InvertedResidual(8, 12, kernel=5, stride=2, activation=nn.Hardswish, gate=nn.Hardsigmoid),
        norm_conv(12, 24, activation=nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 16),
        nn.Hardswish(),
        nn.Linear(16, 5),
    )


def efficientnet():
    """Tan and Le, ICML 2019: SiLU and sigmoid gates."""
    return nn.Sequential(
        norm_conv(3, 8, 3, 2, activation=nn.SiLU),
        InvertedResidual(8, 8, activation=nn.SiLU, gate=nn.Sigmoid),
        InvertedResidual(8, 12, kernel=5, stride=2, activation=nn.SiLU, gate=nn.Sigmoid),
        norm_conv(12, 24, activation=nn.SiLU),
        head(24),
    )


class Bottleneck(nn.Module):
    """ResNet's block (He et al., CVPR 2016); with groups ResNeXt's (Xie et al., CVPR 2017)."""

    def __init__(self, channels_in, channels, stride=1, groups=1):
        super().__init__()
        inner = channels // 2
        self.body = nn.Sequential(
            norm_conv(channels_in, inner),
            norm_conv(inner, inner, 3, stride, groups),
            norm_conv(inner, channels, activation=None),
        )
        self.shortcut = norm_conv(channels_in, channels, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def resnet(groups=1):
    return nn.Sequential(
        norm_conv(3, 16, 7, 2),
        nn.MaxPool2d(3, 2, 1),
        Bottleneck(16, 16, groups=groups),
        Bottleneck(16, 32, 2, groups=groups),
        head(32),
    )


class DenseLayer(nn.Module):
    """Norm, ReLU, convolution; the input is kept beside the output (Huang et al., CVPR 2017)."""

    def __init__(self, channels, growth):
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)


def densenet():
    return nn.Sequential(
        norm_conv(3, 8, 3),
        DenseLayer(8, 4),
        DenseLayer(12, 4),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 8, 1, bias=False),
        nn.AvgPool2d(2),
        DenseLayer(8, 4),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        head(12),
    )


class Fire(nn.Module):
    """Squeeze by 1x1, expand by 1x1 and 3x3 side by side (Iandola et al., arXiv 1602.07360)."""

    def __init__(self, channels_in, squeezed, expanded):
        super().__init__()
        self.squeeze = nn.Conv2d(channels_in, squeezed, 1)
        self.one, self.three = nn.Conv2d(squeezed, expanded, 1), nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        s = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.one(s)), functional.relu(self.three(s))], 1)


def squeezenet():
    """Its pools round up: ceil_mode."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(8, 4, 6),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(12, 4, 6),
        nn.Dropout(),
        nn.Conv2d(12, 5, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class UNet(nn.Module):
    """Encoder and decoder with skip connections (Ronneberger et al., MICCAI 2015), three ways of going up."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.down3 = norm_conv(3, 8, 3), norm_conv(8, 12, 3), norm_conv(12, 16, 3)
        self.bottom = norm_conv(16, 16, 3)
        self.transposed = nn.ConvTranspose2d(16, 12, 2, 2)
        self.up3, self.up2, self.up1 = norm_conv(28, 12, 3), norm_conv(24, 8, 3), norm_conv(16, 8, 3)
        self.aligned, self.head = norm_conv(8, 8), head(8)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(functional.max_pool2d(a, 2))
        c = self.down3(functional.max_pool2d(b, 2))
        d = self.bottom(functional.max_pool2d(c, 2))
        d = self.up3(torch.cat([self.transposed(d), c], 1))
        d = self.up2(torch.cat([functional.interpolate(d, scale_factor=2, mode="nearest"), b], 1))
        up = functional.interpolate(d, scale_factor=2, mode="bilinear", align_corners=False)
        d = self.up1(torch.cat([up, a], 1))
        d = functional.interpolate(self.aligned(d), size=(20, 24), mode="bilinear", align_corners=True)
        return self.head(d)


class ChannelsFirstNorm(nn.Module):
    """Layer norm over channels of a map."""

    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, layer norm, GELU MLP, layer scale (Liu et al., CVPR 2022)."""

    def __init__(self, channels):
        super().__init__()
        self.filter = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.scale = nn.Parameter(torch.ones(channels) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.filter(x).permute(0, 2, 3, 1)
        return x + (self.scale * self.mlp(self.norm(h))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 4, 4),
            ChannelsFirstNorm(8),
            ConvNeXtBlock(8),
            ChannelsFirstNorm(8),
            nn.Conv2d(8, 12, 2, 2),
            ConvNeXtBlock(12),
        )
        self.norm, self.linear = nn.LayerNorm(12, eps=1e-6), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(self.body(x).mean((2, 3))))


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values, cut apart by unbind or chunk."""

    def __init__(self, width, heads, *, chunked):
        super().__init__()
        self.heads, self.chunked = heads, chunked
        self.qkv, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        if self.chunked:
            q, k, v = (
                part.reshape(n, tokens, self.heads, -1).transpose(1, 2)
                for part in self.qkv(x).chunk(3, dim=-1)
            )
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            q, k, v = self.qkv(x).reshape(n, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            mixed = ((q * (width // self.heads) ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.projection(mixed.transpose(1, 2).reshape(n, tokens, width))


class TransformerBlock(nn.Module):
    def __init__(self, width, heads, *, chunked=False, approximate="none"):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, chunked=chunked)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(approximate), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Class token, learned positions, three ways of writing attention (Dosovitskiy et al., ICLR 2021)."""

    def __init__(self, width=16, heads=2, patch=8, tokens=12):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, tokens + 1, width))
        self.block1 = TransformerBlock(width, heads)
        self.block2 = TransformerBlock(width, heads, chunked=True, approximate="tanh")
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        tokens = self.block2(self.block1(tokens))
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.linear(self.norm(tokens)[:, 0])


def encoder():
    """torch's own transformer encoder layer over a multivariate series."""
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, norm_first=True, activation="gelu")
    return nn.Sequential(
        nn.Conv1d(3, 16, 4, 4),
        Permuted(),
        nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
        Pooled(),
    )


class Permuted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Pooled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.amax(1))


def cnn_1d():
    return nn.Sequential(
        nn.Conv1d(1, 8, 7, padding=3),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 12, 5, padding=2),
        nn.BatchNorm1d(12),
        nn.ELU(),
        nn.AvgPool1d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.Conv1d(12, 12, 3, padding=1),
        nn.PReLU(12),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


class CausalBlock(nn.Module):
    """Dilated convolutions that see only the past, with a shortcut (Bai et al., arXiv 1803.01271)."""

    def __init__(self, channels_in, channels, dilation):
        super().__init__()
        self.reach = 2 * dilation
        self.conv1 = nn.Conv1d(channels_in, channels, 3, dilation=dilation)
        self.conv2 = nn.Conv1d(channels, channels, 3, dilation=dilation)
        self.shortcut = nn.Conv1d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = functional.relu(self.conv1(functional.pad(x, (self.reach, 0))))
        h = functional.relu(self.conv2(functional.pad(h, (self.reach, 0))))
        return functional.relu(h + self.shortcut(x))


class TemporalNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(CausalBlock(2, 8, 1), CausalBlock(8, 8, 2), CausalBlock(8, 8, 4))
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.body(x)[:, :, -1])


class GatedMLP(nn.Module):
    """gMLP (Liu et al., NeurIPS 2021): a spatial gating unit, then a SwiGLU layer with RMS norm as in LLaMA."""

    def __init__(self, width=12, places=10):
        super().__init__()
        self.enter = nn.Linear(4, width)
        self.wide = nn.Linear(width, 2 * width)
        self.norm, self.spatial = nn.LayerNorm(width), nn.Conv1d(places, places, 1)
        self.leave = nn.Linear(width, width)
        self.scale = nn.Parameter(torch.ones(width))
        self.gate, self.value = nn.Linear(width, 16), nn.Linear(width, 16)
        self.glu, self.linear = nn.Linear(16, 16), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        u, v = functional.gelu(self.wide(x)).chunk(2, dim=-1)
        x = x + self.leave(u * self.spatial(self.norm(v)))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale
        x = functional.silu(self.gate(x)) * self.value(x)
        return self.linear(functional.glu(self.glu(x)).mean(1))


class Odds(nn.Module):
    """Activations and norms that networks of the wild have: each on its own channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.instance, self.group = nn.InstanceNorm2d(16, affine=True), nn.GroupNorm(4, 16)
        self.shuffle, self.unshuffle = nn.PixelShuffle(2), nn.PixelUnshuffle(2)
        self.activations = nn.ModuleList(
            [
                nn.Softplus(),
                nn.Mish(),
                nn.SELU(),
                nn.CELU(1.3),
                nn.Softsign(),
                nn.LogSigmoid(),
                nn.Tanhshrink(),
            ]
        )
        self.reflect = nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")
        self.linear = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.group(self.instance(self.stem(x)))
        x = self.unshuffle(self.shuffle(x))
        for activation in self.activations:
            x = x + activation(x)
        x = self.reflect(x)
        x = x / x.norm(dim=1, keepdim=True).clamp_min(1e-6) + x.abs().sqrt() * 0.1
        x = torch.where(x > 0.1, x, x.exp() - 1) + torch.maximum(x, x.flip(-1)).roll(1, 2)
        mixed = torch.einsum("nchw,ndhw->ncd", x, x).logsumexp(-1)
        return functional.log_softmax(self.linear(mixed + x.std((2, 3)) + x.amax((2, 3))), dim=-1)


@dataclass(frozen=True)
class Network:
    """How a network is made and the shape of one input."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


NETWORKS: Mapping[str, Network] = {
    "mobilenet_v2": Network(mobilenet_v2, (3, 24, 32)),
    "mobilenet_v3": Network(mobilenet_v3, (3, 24, 32)),
    "efficientnet": Network(efficientnet, (3, 24, 32)),
    "resnet": Network(resnet, (3, 31, 32)),
    "resnext": Network(lambda: resnet(4), (3, 31, 32)),
    "densenet": Network(densenet, (3, 16, 16)),
    "squeezenet": Network(squeezenet, (3, 32, 35)),
    "unet": Network(UNet, (3, 16, 24)),
    "convnext": Network(ConvNeXt, (3, 32, 40)),
    "vision_transformer": Network(VisionTransformer, (3, 24, 32)),
    "encoder": Network(encoder, (3, 40)),
    "cnn_1d": Network(cnn_1d, (1, 70)),
    "temporal": Network(TemporalNetwork, (2, 60)),
    "gated_mlp": Network(GatedMLP, (10, 4)),
    "odds": Network(Odds, (3, 12, 10)),
}


def network(name: str) -> nn.Module:
    """Build a network with seeded weights and statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(list(NETWORKS).index(name))
    with torch.random.fork_rng():
        torch.manual_seed(list(NETWORKS).index(name))
        module = NETWORKS[name].make().eval()
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 2.0, generator=generator)
    return module.requires_grad_(False)
