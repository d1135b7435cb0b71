"""Which kernel computes a gradient: committed measurements, looked up by shape class.

Export never times anything: that would measure the exporter's machine and make the graph depend on its load. The
numbers are medians of times on ONNX Runtime 1.31, CPU with AVX-512, one thread, batches of 1 and 16; only their
order matters. On a processor with other vector widths the best choice can differ, the result never does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType

# Shape class -> kernel -> time; the cheapest is taken.
Costs = Mapping[str, Mapping[str, float]]

# Gradient of a convolution at stride 1: time relative to ConvTranspose. A convolution with the flipped weight
# uses the blocked layout, which pads channels to full blocks: lost work when they are few or odd.
CONVOLUTION_COST: Costs = MappingProxyType(
    {
        "depthwise": {"transposed": 1.0, "flipped": 0.34},  # 64 and 144 channels, 3x3
        "grouped": {"transposed": 1.0, "flipped": 1.26},  # 128 channels in 32 groups, 3x3
        # Alone, flipping is slower (1.15: 24-144, 144-24, 64-64). But ConvTranspose has no blocked kernel, and so adds
        # a reorder on either side between blocked neighbours: MobileNetV2 at 224 x 224 as a whole.
        "pointwise_blocked": {"transposed": 1.0, "flipped": 0.86},
        "pointwise": {"transposed": 1.0, "flipped": 1.15},  # 1-20, 3-8
        "dense_blocked": {"transposed": 1.0, "flipped": 0.74},  # 16, 32, 64, 256 channels, 3x3 and 5x5
        "dense_unblocked": {"transposed": 1.0, "flipped": 2.9},  # 3-16, 1-20, 20-50, 24-24
    }
)

# Gradient of a strided convolution in two dimensions: time of the whole network relative to ConvTranspose (MobileNetV2
# and ResNet-18 at 224 x 224). ConvTranspose has no blocked kernel; by phase, what follows stays in blocks.
STRIDED_COST: Costs = MappingProxyType(
    {
        "depthwise": {"transposed": 1.0, "phases": 0.9},
        "other": {"transposed": 1.0, "phases": 1.1},
    }
)

# Gradient of max pooling whose windows tile the input: time relative to Indices + MaxUnpool, by the number of
# elements per sample. MaxPool with Indices leaves the fast layout; finding the first match has more nodes.
POOLING_COST: Costs = MappingProxyType(
    {
        "small": {"unpool": 1.0, "match": 1.7},  # 50 x 8 x 8
        "large": {"unpool": 1.0, "match": 0.7},  # 20 x 24 x 24: 1.2 at batch 1, 0.4 at batch 16
    }
)

# Between blocked convolutions, whole networks. A mask of two bounds has several passes outside the blocked layout
# (MobileNetV2 at 224 x 224), that of a ReLU only one, which two reorders do not outweigh (ResNet-18, ResNet-20).
MASK_COST: Costs = MappingProxyType(
    {
        "relu": {"plain": 1.0, "scaled": 1.02},
        "clip": {"plain": 1.0, "scaled": 0.78},
        "sum": {"plain": 1.0, "scaled": 0.97},  # the mean has a blocked kernel, the sum none (ResNet-18)
        "small_sum": {"plain": 1.0, "scaled": 1.03},  # ResNet-20, whose maps have 4096 to 16384 elements
    }
)

# How a session holds the weights of products. Laid out anew when the graph is loaded they are faster to read in
# batches, but a weight that forward and backward pass both read is then there twice, which a cache may not hold.
PREPACKING_COST: Costs = MappingProxyType(
    {
        "dense": {
            "packed": 1.0,
            "plain": 0.95,
        },  # LeNet-5, most of it one full layer: 0.85 at batch 1, 1.05 at 16
        "other": {
            "packed": 1.0,
            "plain": 1.05,
        },  # ViT-Ti 1.07, ResNet-20 1.1 at batch 16, no difference elsewhere
    }
)

_BLOCK = 16
_LARGE_ELEMENTS = 8192
_SMALL_SUM = 16384


def convolution_class(channels_out: int, channels_in: int, kernel: Sequence[int], group: int) -> str:
    """Name the shape class of a convolution; channels are totals over all groups."""
    if group > 1:
        return "depthwise" if group == channels_in == channels_out else "grouped"
    if prod(kernel) == 1:
        return "pointwise_blocked" if min(channels_in, channels_out) >= _BLOCK else "pointwise"
    blocked = channels_in % _BLOCK == 0 and channels_out % _BLOCK == 0
    return "dense_blocked" if blocked else "dense_unblocked"


def keeps_blocks(shape: Sequence[object]) -> bool:
    """Tell whether the runtime can hold a value [N, C, h, w] in blocks of channels from one convolution to the next.

    It then stays there only as long as every operator between has a blocked kernel: Conv, Add, Mul, Relu, Sigmoid, Tanh
    and pooling without indices have one, comparisons and reductions do not.
    """
    sizes = [size for size in shape[1:] if isinstance(size, int)]
    return len(shape) == 4 and len(sizes) == 3 and sizes[0] % _BLOCK == 0 and sizes[1:] != [1, 1]


@dataclass(frozen=True)
class CostTable:
    """What the kernels of a gradient cost on one kind of machine.

    Attributes
    ----------
    convolution : class -> ``transposed`` (ConvTranspose) or ``flipped`` (Conv with the weight read backwards)
    strided : class -> ``transposed`` (ConvTranspose) or ``phases`` (a convolution for each position modulo the stride)
    pooling : class -> ``unpool`` (Indices and MaxUnpool) or ``match`` (compare strided slices)
    mask : class -> ``plain`` (element by element; ReduceSum) or ``scaled`` (behind a convolution that scales each
        channel; GlobalAveragePool)
    prepacking : class -> ``packed`` (the runtime lays weights out anew when it loads the graph) or ``plain``
    """

    convolution: Costs
    strided: Costs
    pooling: Costs
    mask: Costs
    prepacking: Costs

    def convolution_kernel(
        self, channels_out: int, channels_in: int, kernel: Sequence[int], group: int
    ) -> str:
        """Choose how the gradient of a convolution at stride 1 is computed."""
        return _cheapest(self.convolution[convolution_class(channels_out, channels_in, kernel, group)])

    def strided_kernel(self, channels_out: int, channels_in: int, kernel: Sequence[int], group: int) -> str:
        """Choose how the gradient of a convolution with a stride is computed."""
        depthwise = convolution_class(channels_out, channels_in, kernel, group) == "depthwise"
        return _cheapest(self.strided["depthwise" if depthwise and len(kernel) == 2 else "other"])

    def pooling_kernel(self, sizes: Sequence[int]) -> str:
        """Choose how the gradient of a tiling max pooling is computed; ``sizes`` are those of one sample."""
        return _cheapest(self.pooling[pooling_class(sizes)])

    def prepacks(self, *, dense: bool) -> bool:
        """Tell whether a session should lay weights out anew; ``dense``: most are read by products of single rows."""
        return _cheapest(self.prepacking["dense" if dense else "other"]) == "packed"

    def keeps_blocks(self, kind: str, shape: Sequence[object]) -> bool:
        """Tell whether a mask or a sum of this shape is computed in the blocked layout; ``kind`` is a class."""
        return keeps_blocks(shape) and _cheapest(self.mask[kind]) == "scaled"


def sum_class(sizes: Sequence[int]) -> str:
    """Name the shape class of a sum over space; ``sizes`` are those of one sample."""
    return "small_sum" if prod(sizes) <= _SMALL_SUM else "sum"


def pooling_class(sizes: Sequence[int]) -> str:
    """Name the shape class of a tiling max pooling."""
    return "large" if prod(sizes) >= _LARGE_ELEMENTS else "small"


def _cheapest(costs: Mapping[str, float]) -> str:
    return min(costs, key=lambda kernel: costs[kernel])


COMMITTED = CostTable(CONVOLUTION_COST, STRIDED_COST, POOLING_COST, MASK_COST, PREPACKING_COST)
