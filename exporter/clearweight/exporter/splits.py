"""Disjoint data splits: fitting, validation, calibration; and the digest of each.

Matching overfits the maps that it sees, so a drift null measured on fitting samples would be too tight: overlap is
an error, also when the same sample stands in the data twice.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from clearweight.exporter.data import Labelled
from clearweight.exporter.errors import SplitError


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of the data and what each is for.

    Attributes
    ----------
    fit : training; no other part is ever trained on
    validation : the accuracy and faithfulness that the manifest reports
    calibration : fidelity, drift null, quantization ranges and canaries
    """

    fit: Labelled
    validation: Labelled
    calibration: Labelled

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each part, over shape, type, inputs and labels."""
        return {name: digest(getattr(self, name)) for name in ("fit", "validation", "calibration")}


def digest(part: Labelled) -> str:
    """Return the SHA-256 of one part as hexadecimal text."""
    head = f"{part.inputs.dtype.str} {part.inputs.shape}".encode()
    return hashlib.sha256(head + part.inputs.tobytes() + part.labels.astype("<i8").tobytes()).hexdigest()


def _fingerprints(part: Labelled) -> set[bytes]:
    return {hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in part.inputs}


def check_disjoint(**parts: Labelled) -> None:
    """Refuse parts that share an input.

    Raises
    ------
    SplitError
        Some input occurs in two parts; the message names both and counts.
    """
    seen = {name: _fingerprints(part) for name, part in parts.items()}
    names = list(seen)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            shared = len(seen[first] & seen[second])
            if shared:
                raise SplitError(
                    f"The splits {first!r} and {second!r} share {shared} inputs, expected none: measured on fitted "
                    "samples the drift null would be too tight."
                )


def split(data: Labelled, *, validation: int, calibration: int, seed: int) -> Splits:
    """Cut one data set into disjoint parts at random; what is left over is for fitting.

    An input that occurs more than once counts as one sample: its copies are dropped first.

    Raises
    ------
    SplitError
        Fewer distinct samples than the parts ask for.
    """
    _, first = np.unique(
        np.array([hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in data.inputs]),
        return_index=True,
    )
    distinct = np.sort(first)
    if validation + calibration >= len(distinct):
        raise SplitError(
            f"The data holds {len(distinct)} distinct samples, expected more than validation {validation} + "
            f"calibration {calibration}."
        )
    order = np.random.default_rng(seed).permutation(distinct)
    return Splits(
        validation=data[order[:validation]],
        calibration=data[order[validation : validation + calibration]],
        fit=data[np.sort(order[validation + calibration :])],
    )
