"""Attribution maps of a torch classifier, for comparing two models.

Each function explains one logit per image, ``targets[i]`` for image ``i``, before softmax: gradients of
probabilities vanish on confident images. Maps are signed. They are computed in batches of fixed size, so
that the result does not depend on how many images are asked for at once.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from clearweight.artifact.score import channel_sum
from clearweight.exporter.errors import DataError
from clearweight.exporter.explain.windows import default_window, sliding_windows

Map = NDArray[np.float32]
Targets = NDArray[np.int64]

BATCH = 250
STEPS = 32
_ROWS_AT_ONCE = 250


def top_class(module: nn.Module, images: Tensor) -> Targets:
    """Find the class with the largest logit; ties go to the lower index."""
    top: Targets = np.argmax(logits(module, images), axis=1).astype(np.int64)
    return top


def logits(module: nn.Module, images: Tensor) -> Map:
    """Evaluate a module in batches, (N, ...) to (N, C)."""
    with torch.inference_mode():
        parts = [module(batch).numpy() for batch in torch.split(images, BATCH)]
    return np.concatenate(parts)


def gradient(module: nn.Module, images: Tensor, targets: Targets) -> Map:
    """dF_c/dx, of the input's shape."""
    return _in_batches(lambda x, c: _input_gradient(module, x, c), images, targets)


def input_x_gradient(module: nn.Module, images: Tensor, targets: Targets) -> Map:
    """X o dF_c/dx, of the input's shape, on the inputs as the module takes them."""
    return _in_batches(lambda x, c: x * _input_gradient(module, x, c), images, targets)


def integrated_gradients(module: nn.Module, images: Tensor, targets: Targets) -> Map:
    """X o the mean of dF_c/dx along the straight path from zero to x, of the input's shape.

    The mean is a Gauss-Legendre quadrature of 32 points, summed in float64.

    References
    ----------
    Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, section 3.
    """
    nodes, weights = np.polynomial.legendre.leggauss(STEPS)
    path = [(float((1 + node) / 2), float(weight / 2)) for node, weight in zip(nodes, weights, strict=True)]

    def explained(x: Tensor, classes: Tensor) -> Tensor:
        total = torch.zeros_like(x, dtype=torch.float64)
        for position, weight in path:
            total += weight * _input_gradient(module, x * position, classes)
        return x * total.float()

    return _in_batches(explained, images, targets)


def occlusion(module: nn.Module, images: Tensor, targets: Targets) -> Map:
    """F_c(x) - F_c(x with a window set to zero), averaged over the windows that cover a position.

    Windows are 4 x 4 for images (an eighth of the side beyond 64 pixels) and 8 for signals and flat inputs, half
    a window apart, across all channels; the last one of an axis ends at its edge. The explain graph of the same
    name has the same ones.

    Returns
    -------
    float32, shape (N, *space): one number per position

    References
    ----------
    Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2.
    """
    space = _space(images)
    windows = _windows(space)
    cover = torch.stack([_indicator(window, space) for window in windows])
    keep = (1 - cover).reshape(len(windows), *(1,) * (images.dim() - 1 - len(space)), *space)
    flat = cover.reshape(len(windows), -1)

    def explained(x: Tensor, classes: Tensor) -> Tensor:
        effects = []
        with torch.inference_mode():
            whole = module(x).gather(1, classes[:, None])
            for part in torch.split(keep, max(1, _ROWS_AT_ONCE // len(x))):
                rows = (x[None] * part[:, None]).reshape(-1, *x.shape[1:])
                hidden = module(rows).reshape(len(part), len(x), -1)
                effects.append(whole.T - hidden.gather(2, classes.expand(len(part), -1)[..., None])[..., 0])
            effect = torch.cat(effects)
            return (effect.T @ flat / flat.sum(0)).reshape(len(x), *space)

    return _in_batches(explained, images, targets)


def sensitivity_weighted(module: nn.Module, images: Tensor, targets: Targets, layer: str) -> Map:
    """SWA: M = relu(sum_k alpha_k A_k) with alpha_k = the spatial sum of dF_c/dA_k.

    A is the output of the module named ``layer``; of its last call, if it is called several times.

    Returns
    -------
    float32, shape (N, *space of the layer)

    Raises
    ------
    DataError
        There is no such module, or its output has no spatial axes.

    References
    ----------
    Park et al., Attribution Preservation in Network Compression for Reliable Network Interpretation,
    NeurIPS 2020, section 3.2.
    """
    try:
        owner = module.get_submodule(layer)
    except AttributeError as error:
        known = ", ".join(name for name, _ in module.named_modules() if name)
        raise DataError(f"No layer {layer!r} to take feature maps from. Known layers: {known}.") from error

    def explained(x: Tensor, classes: Tensor) -> Tensor:
        seen: list[Tensor] = []
        with owner.register_forward_hook(lambda _module, _inputs, output: seen.append(output)):
            score = module(x.detach().requires_grad_()).gather(1, classes[:, None]).sum()
        if not seen or seen[-1].dim() < 3:
            shape = tuple(seen[-1].shape) if seen else None
            raise DataError(f"Layer {layer!r} gives {shape}, expected a feature map (N, channels, *space).")
        features = seen[-1]
        (slope,) = torch.autograd.grad(score, features)
        alpha = slope.flatten(2).sum(2).reshape(*slope.shape[:2], *(1,) * (slope.dim() - 2))
        return torch.relu((alpha * features).sum(1))

    return _in_batches(explained, images, targets)


def over_channels(maps: Map) -> Map:
    """Sum over channels: (N, C, *space) to (N, *space); flat maps stay."""
    space = maps.shape[2:] if maps.ndim > 2 else maps.shape[1:]
    return channel_sum(maps).astype(np.float32).reshape(len(maps), *space)


def channels_innermost(module: nn.Module) -> nn.Module:
    """Lay out image kernels so that small convolutions run twice as fast on one core."""
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _input_gradient(module: nn.Module, x: Tensor, classes: Tensor) -> Tensor:
    source = x.detach().requires_grad_()
    score = module(source).gather(1, classes[:, None]).sum()
    (slope,) = torch.autograd.grad(score, source)
    return slope


def _in_batches(explained: Callable[[Tensor, Tensor], Tensor], images: Tensor, targets: Targets) -> Map:
    if len(images) != len(targets):
        raise DataError(f"{len(targets)} targets for {len(images)} images, expected one for each.")
    classes = torch.from_numpy(np.array(targets, dtype=np.int64))
    pairs = zip(torch.split(images, BATCH), torch.split(classes, BATCH), strict=True)
    return np.concatenate([explained(x, c).detach().numpy().astype(np.float32) for x, c in pairs])


def _space(images: Tensor) -> tuple[int, ...]:
    """Return the axes over which windows move: (H, W), (L,), or (D,) of a flat input."""
    return tuple(images.shape[2:]) if images.dim() > 2 else tuple(images.shape[1:])


def _windows(space: tuple[int, ...]) -> list[tuple[slice, ...]]:
    size = default_window(space)
    windows = sliding_windows(space, size, max(1, size // 2))
    return [
        tuple(slice(start, end) for start, end in zip(*edges, strict=True))
        for edges in zip(windows.starts.tolist(), windows.ends.tolist(), strict=True)
    ]


def _indicator(window: tuple[slice, ...], space: tuple[int, ...]) -> Tensor:
    covered = torch.zeros(space)
    covered[window] = 1
    return covered
