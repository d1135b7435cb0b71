"""The other side of a control limit: how soon a rise of the mean is found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clearweight.service.drift.null import Null
from clearweight.service.drift.pace import breathe
from clearweight.service.drift.run_length import Detector

CHAINS = 1024
BURN_IN = 128
LONGEST = 20_000
"""Scores after which a rise counts as not found."""
_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Power:
    """Scores from the rise to the alarm; None where more than a twentieth of the runs take beyond ``LONGEST``.

    ``delay_samples_p95`` is the upper bound (two standard errors of the simulation) of the 95 % point.
    """

    rise: float
    delay_samples_mean: float | None
    delay_samples_p95: int | None


def detection_delay(
    charts: Sequence[tuple[Detector, float]], null: Null, rise: float, seed: int = 0
) -> Power:
    """Simulate the delay until any of the charts on one score is above its limit.

    Parameters
    ----------
    charts : (detector, alarm limit) of each
    null : the stream before the rise; every score of it is raised
    """
    rng = np.random.default_rng(seed)
    past, noise = null.begin(rng, CHAINS), null.noise
    states = [np.full(CHAINS, detector.start) for detector, _ in charts]
    for _ in range(BURN_IN):
        past, scores = null.advance(rng, past, noise)
        states = [
            # A chart beyond its limit here would be a false alarm, not a detection.
            np.minimum(detector.step(state, scores), limit)
            for (detector, limit), state in zip(charts, states, strict=True)
        ]
    drifted = null.raised(rise)
    delays: list[int] = []
    for step in range(1, LONGEST + 1):
        breathe()
        past, scores = drifted.advance(rng, past, noise)
        states = [detector.step(state, scores) for (detector, _), state in zip(charts, states, strict=True)]
        found = np.any([state > limit for (_, limit), state in zip(charts, states, strict=True)], axis=0)
        if found.any():
            delays += [step] * int(found.sum())
            going = ~found
            past, states = past[:, going], [state[going] for state in states]
        if len(delays) == CHAINS:
            break
    at = int(np.ceil(CHAINS * (_SHARE + 2.0 * (_SHARE * (1.0 - _SHARE) / CHAINS) ** 0.5)))
    if len(delays) < at:
        return Power(rise, None, None)
    late = [LONGEST] * (CHAINS - len(delays))
    return Power(rise, float(np.mean(delays + late)), delays[at - 1])
