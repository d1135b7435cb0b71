"""Kernel quantization: a convolution's kernels are drawn from a codebook of few kernels.

Yu, Shi, Huang, Yu, Kernel Quantization for Efficient Network Compression, IEEE Access 2022 (arXiv 2003.05148). The unit
is one k x k kernel: per layer, k-means over all outputs x inputs kernels gives K codewords, and each kernel is an index
of log2 K bits. The entries of the codewords share few scalar values in turn. What has no kernels (1 x 1 convolutions,
linear layers) has its weights shared one by one.

Assignments move: while the codewords train by the summed gradients of their members, each kernel's own free value
follows its own gradient straight through the assignment, and every so often each kernel goes to the codeword that is
nearest to where its free value has come.
"""

import fnmatch
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.utils import parametrize

from clearweight.artifact import CodedTensor, TileCodebookTensor
from clearweight.exporter.compress.constraint import (
    SharedCodebook,
    TileConstraint,
    constraints_of,
    factored,
    locate,
    parameter_names,
    put,
    put_codebook,
    replaced,
    value_of,
    whole_names,
)
from clearweight.exporter.compress.share_weights import Bits, share
from clearweight.exporter.compress.step import Workbench
from clearweight.exporter.errors import ConstraintError
from clearweight.exporter.training import FineTuning

MOST_CODEWORDS = 256  # an index is a byte
_CHUNK = 1 << 14  # kernels whose distances to all codewords are held at a time


class KernelCodebook(TileConstraint):
    """Every kernel is one of few: ``codewords[indices]``.

    Attributes
    ----------
    codewords : (K, elements of a kernel); they train, each by the sum of its members' gradients
    indices : int64, (outputs, inputs)
    """

    kind: ClassVar = "kernel_codebook"
    replaces: ClassVar = True
    factors: ClassVar = ("codewords",)
    indices: Tensor

    def __init__(self, codewords: Tensor, indices: Tensor) -> None:
        super().__init__()
        self.codewords = nn.Parameter(codewords)
        self.register_buffer("indices", indices.long())

    def forward(self, weight: Tensor) -> Tensor:
        """Look every kernel up; the tensor underneath only gives the shape."""
        return self.codewords[self.indices].view_as(weight)

    def tiled(
        self, name: str, values: NDArray[np.float32], factors: Mapping[str, CodedTensor]
    ) -> TileCodebookTensor:
        """Return the kernels as tiles of one row."""
        book = factors["codewords"]
        return TileCodebookTensor(
            name=name,
            values=values,
            tile=(1, book.values.shape[1]),
            book=book,
            tile_indices=self.indices.cpu().numpy().astype(np.uint8),
        )


class _MovingKernels(KernelCodebook):
    """The codebook while assignments still move: gradients also reach the kernels' free values, straight through."""

    replaces: ClassVar = False

    def forward(self, weight: Tensor) -> Tensor:
        """Return the codewords; the gradient by ``weight`` is that by each kernel's own value."""
        return super().forward(weight) + (weight - weight.detach())

    @torch.no_grad()
    def reassign(self, weight: Tensor) -> None:
        """Let each kernel go to the codeword that is nearest to its free value."""
        found = nearest_kernels(kernels_of(weight), self.codewords.detach().double().cpu().numpy())
        self.indices.copy_(torch.from_numpy(found).view_as(self.indices))


class KernelQuantizationConfig(BaseModel):
    """Settings of kernel quantization.

    Attributes
    ----------
    layers : name patterns of the convolutions; every weight with kernels of more than one element that none matches is
        treated as one without kernels
    codewords : of each layer's codebook; None lets them grow as ``growth * sqrt(kernels)``
    entry_bits : index width of the scalar codebook that a layer's codeword entries share
    bits : index width of all other weights; None leaves them
    reassign_every : steps between two assignments
    settled : share of the training at whose end assignments are fixed
    fine_tune : trains codewords and assignments; the other weights train along
    entry_tune : trains the shared values; None leaves them where k-means put them
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["kernel_quantization"] = "kernel_quantization"
    layers: tuple[str, ...] = ("*",)
    codewords: Annotated[int, Field(ge=1, le=MOST_CODEWORDS)] | None = None
    growth: PositiveFloat = 4.0
    entry_bits: Bits = 6
    bits: Bits | None = 5
    iterations: PositiveInt = 50
    reassign_every: PositiveInt = 20
    settled: float = Field(default=0.3, ge=0.0, le=1.0)
    fine_tune: FineTuning
    entry_tune: FineTuning | None = None


def kernels_of(weight: Tensor) -> NDArray[np.float64]:
    """Return the kernels of a convolution's weight (outputs, inputs, *kernel), one in each row."""
    return weight.detach().double().cpu().numpy().reshape(weight.shape[0] * weight.shape[1], -1)


def nearest_kernels(kernels: NDArray[np.float64], codewords: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the nearest codeword for each kernel, by Euclidean distance; a tie falls to the lower one."""
    found = np.empty(len(kernels), dtype=np.int64)
    own = (codewords**2).sum(1)
    for start in range(0, len(kernels), _CHUNK):
        part = kernels[start : start + _CHUNK]
        found[start : start + _CHUNK] = (own - 2.0 * part @ codewords.T).argmin(1)
    return found


def first_codewords(
    kernels: NDArray[np.float64], count: int, draws: np.random.Generator
) -> NDArray[np.float64]:
    """Place codewords before k-means: kernels drawn by their squared distance to those drawn before.

    References
    ----------
    Arthur, Vassilvitskii, k-means++: The Advantages of Careful Seeding, SODA 2007, section 2.2.
    """
    drawn = [kernels[int(draws.integers(len(kernels)))]]
    distance = ((kernels - drawn[0]) ** 2).sum(1)
    while len(drawn) < count and distance.sum() > 0:
        drawn.append(kernels[int(draws.choice(len(kernels), p=distance / distance.sum()))])
        distance = np.minimum(distance, ((kernels - drawn[-1]) ** 2).sum(1))
    return np.array(drawn)


def kmeans(
    kernels: NDArray[np.float64], count: int, iterations: int, draws: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Cluster kernels by Lloyd's algorithm; a codeword without members stays where it is.

    Returns
    -------
    codewords : (K, m), K at most ``count``, fewer where there are fewer distinct kernels
    indices : (n,), each kernel's nearest codeword
    """
    codewords = first_codewords(kernels, count, draws)
    indices = nearest_kernels(kernels, codewords)
    for _ in range(iterations):
        members = np.bincount(indices, minlength=len(codewords))
        sums = np.zeros_like(codewords)
        np.add.at(sums, indices, kernels)
        codewords = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], codewords)
        before, indices = indices, nearest_kernels(kernels, codewords)
        if np.array_equal(before, indices):
            break
    return codewords, indices


def codeword_count(kernels: int, config: KernelQuantizationConfig) -> int:
    """Return how many codewords a layer of so many kernels gets.

    >>> config = KernelQuantizationConfig(fine_tune=FineTuning(epochs=1))
    >>> [codeword_count(n, config) for n in (16, 256, 1024, 4096, 262144)]
    [16, 64, 128, 256, 256]
    """
    wanted = round(config.growth * kernels**0.5) if config.codewords is None else config.codewords
    return max(1, min(wanted, MOST_CODEWORDS, kernels))


def _has_kernels(weight: Tensor) -> bool:
    return weight.ndim > 2 and weight[0, 0].numel() > 1


def kernel_weights(config: KernelQuantizationConfig, model: nn.Module) -> list[str]:
    """Return the weights whose kernels are quantized, before the step or after it.

    Raises
    ------
    ConstraintError
        A pattern matches no convolution with kernels.
    """
    known = [name for name in whole_names(model) if _has_kernels(value_of(model, name))]
    found: dict[str, None] = {}
    for pattern in config.layers:
        matched = fnmatch.filter(known, pattern)
        if not matched:
            raise ConstraintError(
                f"kernel_quantization: the pattern {pattern!r} matches no weight with kernels of more than one "
                f"element. Weights: {', '.join(known) or 'none'}."
            )
        found |= dict.fromkeys(matched)
    return list(found)


class KernelQuantization:
    """Draw kernels from a codebook, share the codebook's entries and all other weights, and train both."""

    name: ClassVar = "kernel_quantization"
    config_type: ClassVar = KernelQuantizationConfig

    def __init__(self, config: KernelQuantizationConfig) -> None:
        self.config = config

    def apply(self, model: nn.Module, bench: Workbench) -> None:
        """Quantize and train ``model`` in place."""
        config = self.config
        names = kernel_weights(config, model)
        for name in names:
            if any(True for _ in constraints_of(model, name)):
                raise ConstraintError(f"kernel_quantization: {name!r} is constrained already.")
        draws = np.random.default_rng(bench.runtime.seed)
        moving = {name: self._clustered(model, name, draws) for name in names}
        owners = {name: locate(model, name) for name in names}
        free = {name: value_of(model, name) for name in names}
        for name, constraint in moving.items():
            put(model, name, constraint)

        def on_step(step: int, steps: int) -> None:
            if step % config.reassign_every == 0 and step <= (1.0 - config.settled) * steps:
                for name, constraint in moving.items():
                    constraint.reassign(free[name])

        bench.fine_tune(model, config.fine_tune, self.name, on_step=on_step)
        for name, (owner, attribute) in owners.items():
            parametrize.remove_parametrizations(owner, attribute, leave_parametrized=False)
            put(model, name, _settled(moving[name]))
        for name in [n for n in parameter_names(model) if value_of(model, n).ndim > 1]:
            self._share(model, name)
        if config.entry_tune is not None:
            bench.fine_tune(model, config.entry_tune, f"{self.name} (entries)")

    def _clustered(self, model: nn.Module, name: str, draws: np.random.Generator) -> _MovingKernels:
        weight, config = value_of(model, name), self.config
        kernels = kernels_of(weight)
        codewords, indices = kmeans(kernels, codeword_count(len(kernels), config), config.iterations, draws)
        moving = _MovingKernels(
            torch.from_numpy(codewords).float(), torch.from_numpy(indices).view(weight.shape[:2])
        )
        return moving.to(weight.device)

    def _share(self, model: nn.Module, name: str) -> None:
        config = self.config
        is_book = replaced(model, name) != name
        bits = config.entry_bits if is_book else config.bits
        if bits is None or any(isinstance(c, SharedCodebook) for c in constraints_of(model, name)):
            return
        value = value_of(model, name).detach()
        centroids, indices = share(value.cpu().numpy(), bits, "linear", 100)
        put_codebook(
            model,
            name,
            torch.from_numpy(centroids).to(value.device),
            torch.from_numpy(indices).to(value.device),
        )

    def ensure(self, model: nn.Module) -> None:
        """Check that every layer holds no more kernels than its codebook, of no more values than its entries."""
        for name in kernel_weights(self.config, model):
            kernels = kernels_of(value_of(model, name))
            most = codeword_count(len(kernels), self.config)
            if (
                not isinstance(factored(model, name), KernelCodebook)
                or len(np.unique(kernels, axis=0)) > most
            ):
                raise ConstraintError(f"kernel_quantization: {name!r} holds more than {most} kernels.")
            if len(np.unique(kernels)) > 2**self.config.entry_bits:
                raise ConstraintError(
                    f"kernel_quantization: {name!r} holds more than 2^{self.config.entry_bits} values."
                )


def _settled(moving: _MovingKernels) -> KernelCodebook:
    """Fix the assignments and drop the codewords that no kernel uses."""
    used, indices = torch.unique(moving.indices, return_inverse=True)
    return KernelCodebook(moving.codewords.detach()[used], indices)
