"""Probe inputs that travel with an artifact, so that a device can test itself."""

import numpy as np
import torch
from torch import Generator, nn

from clearweight.artifact import Canary, Preprocessing
from clearweight.exporter.calibration import Explained
from clearweight.exporter.data import Labelled
from clearweight.exporter.preparation import Prepared, load_source

STEPS = 60


def spread_over_classes(part: Labelled, count: int) -> Labelled:
    """Take ``count`` samples of ``part``, the classes in turn, each class in stored order."""
    by_class = [np.flatnonzero(part.labels == c) for c in np.unique(part.labels)]
    turns = [members[i] for i in range(max(map(len, by_class))) for members in by_class if i < len(members)]
    return part[np.asarray(turns[:count], dtype=np.int64)]


def synthetic(
    model: nn.Module,
    preprocessing: Preprocessing,
    shape: tuple[int, ...],
    classes: int,
    count: int,
    seed: int,
) -> Labelled:
    """Build probes by optimisation: no real input leaves the house.

    From smooth noise, gradient ascent on the logit of one class after the other, kept in the raw range
    (activation maximisation; Simonyan et al., 2014, section 2).

    Parameters
    ----------
    shape : of one input

    Returns
    -------
    ``count`` inputs in the raw type with the classes they were driven to
    """
    generator = Generator().manual_seed(seed)
    wanted = torch.arange(count) % classes
    raw_is_bytes = preprocessing.raw_datatype == "UINT8"
    high = 255.0 if raw_is_bytes else 1.0
    raw = (torch.rand((count, *shape), generator=generator) * high).requires_grad_()
    for _ in range(STEPS):
        logits = model(_preprocess(raw, preprocessing))
        score = logits.gather(1, wanted[:, None]).sum() - torch.logsumexp(logits, 1).sum()
        (gradient,) = torch.autograd.grad(score, raw)
        scale = gradient.flatten(1).abs().amax(1).clamp_min(1e-12).reshape(-1, *[1] * len(shape))
        with torch.no_grad():
            raw += high / STEPS * gradient / scale
            raw.clamp_(0.0, high)
    probes = raw.detach().numpy()
    stored = np.rint(probes).astype(np.uint8) if raw_is_bytes else probes.astype(np.float32)
    return Labelled(stored, wanted.numpy().astype(np.int64))


def _preprocess(raw: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    shape = (1, -1, *[1] * (raw.ndim - 2))
    scaled = raw * preprocessing.scale
    if preprocessing.mean:
        scaled = scaled - torch.tensor(preprocessing.mean).reshape(shape)
    if preprocessing.std:
        scaled = scaled / torch.tensor(preprocessing.std).reshape(shape)
    return scaled


def canary_inputs(prepared: Prepared) -> Labelled:
    """Return the probes that travel with the artifact."""
    section = prepared.recipe.canaries
    if section.source == "file" and section.file is not None:
        shape, resize = prepared.recipe.model.input_shape, prepared.preprocessing.resize
        given = load_source(section.file, shape, resize)
        return spread_over_classes(given, section.count)
    if section.source == "synthetic":
        shape, classes = prepared.recipe.model.input_shape, len(prepared.labels)
        return synthetic(
            prepared.reference,
            prepared.preprocessing,
            shape,
            classes,
            section.count,
            prepared.recipe.seed,
        )
    return spread_over_classes(prepared.splits.calibration, section.count)


def canary(raw: Labelled, reference: Explained, own: Explained) -> Canary:
    """Return the probes and what both networks answered to them, for the class that the reference predicts."""
    return Canary(
        inputs=raw.inputs,
        target=reference.logits.argmax(1).astype(np.int64),
        logits_reference=reference.logits,
        logits_compressed=own.logits,
        maps_reference=reference.maps.astype(np.float16),
        maps_compressed=own.maps.astype(np.float16),
    )
