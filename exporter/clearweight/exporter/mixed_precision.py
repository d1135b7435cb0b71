"""Deploying in mixed precision: each weight tensor in as many bits as its answer and its map need.

What rounding a tensor costs is estimated from second moments (`clearweight.exporter.importance`): half the Fisher
diagonal times the squared change, in nats of the answer, and a share of the attribution moment times the squared
change, in squared distance of unit maps. Arithmetic stays in float32 and nothing but weights is rounded, so maps of the
deployed network are its own gradients, not those of a surrogate.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from clearweight.artifact import CodedTensor
from clearweight.exporter.bit_allocation import Choice, Option, allocate, distortion
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.graph import split_parameters, weight_only, weights_of
from clearweight.exporter.graph.weight_only import few_bit_values, stored_bytes
from clearweight.exporter.importance import importance
from clearweight.exporter.quantization import Quantized, stored
from clearweight.exporter.restructure import restructure
from clearweight.exporter.sections import MixedPrecisionSection
from clearweight.exporter.training import Samples

Curvature = Mapping[str, NDArray[np.float32]]


def curvature(
    model: nn.Module,
    exact: onnx.ModelProto,
    inputs: NDArray[np.float32],
    section: MixedPrecisionSection,
    seed: int,
) -> Curvature:
    """Return what a squared change of each weight costs, in the shapes of the network as it runs.

    Parameters
    ----------
    model : with its constraints in place
    exact : its canonical graph before it was rebuilt
    inputs : unlabelled; the first ``section.statistic_samples`` are looked at
    """
    shown = torch.from_numpy(inputs[: section.statistic_samples])
    samples = Samples(shown, torch.zeros(len(shown), dtype=torch.int64))
    draws = torch.Generator().manual_seed(seed)
    found = importance(model, samples, frozenset({"fisher", "attribution"}), draws)
    _, parameters = split_parameters(exact)
    both = [
        CodedTensor(
            name,
            (found["fisher"][name] / 2 + section.attribution_share * found["attribution"][name]).numpy(),
        )
        for name in parameters
        if name in found["fisher"]
    ]
    # What is taken out or moved is so with the numbers that belong to it, too.
    return {tensor.name: tensor.values for tensor in restructure(model, exact, both).tensors}


def options(running: onnx.ModelProto, bent: Curvature, widths: Sequence[int]) -> dict[str, list[Option]]:
    """Return what each weight of a network costs in each number of bits.

    Parameters
    ----------
    running : the float32 network as it runs
    bent : from ``curvature``
    """
    _, parameters = split_parameters(running)
    return {
        name: [
            Option(
                bits,
                stored_bytes(running, name, bits),
                float(
                    (
                        bent[name].astype(np.float64)
                        * np.square(few_bit_values(running, name, bits) - parameters[name], dtype=np.float64)
                    ).sum()
                ),
            )
            for bits in sorted(widths)
        ]
        for name in weights_of(running)
    }


def chosen_bits(
    found: Mapping[str, Sequence[Option]], section: MixedPrecisionSection, weights: int
) -> Choice:
    """Allocate bits inside the recipe's limit.

    Parameters
    ----------
    weights : how many there are, for a limit in bits per weight

    Raises
    ------
    RecipeError
        No choice keeps the limit; the message says what the nearest one comes to.
    """
    if section.bits_per_weight is not None:
        most = section.bits_per_weight * weights / 8
        choice = allocate(found, max_bytes=most)
        least = sum(option.bytes for option in choice.values())
        if least > most:
            raise RecipeError(
                f"mixed_precision: the weights take {8 * least / weights:.3f} bits each at the least, scales included, "
                f"found bits_per_weight {section.bits_per_weight}."
            )
        return choice
    choice = allocate(found, max_distortion=section.max_distortion)
    if section.max_distortion is not None and distortion(choice) > section.max_distortion:
        raise RecipeError(
            f"mixed_precision: the estimated distortion is {distortion(choice):.3g} even in {max(section.bits)} bits, "
            f"found max_distortion {section.max_distortion}."
        )
    return choice


def mix(
    running: onnx.ModelProto, tensors: Sequence[CodedTensor], bent: Curvature, section: MixedPrecisionSection
) -> Quantized:
    """Store each weight of a float32 network whose codes are known in as many bits as it needs.

    Raises
    ------
    RecipeError
        No choice keeps the recipe's limit.
    """
    found = options(running, bent, section.bits)
    _, before = split_parameters(running)
    choice = chosen_bits(found, section, sum(before[name].size for name in found))
    bits = {name: option.bits for name, option in choice.items()}
    made = weight_only(running, bits)
    _, after = split_parameters(made.model)
    return Quantized(
        made.model,
        stored(after, tensors),
        made.beside,
        stands_for={name: values.size for name, values in made.values.items()},
        bits=bits,
    )
