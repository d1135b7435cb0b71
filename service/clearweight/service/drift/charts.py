"""The charts of one model: which series are watched, by which detectors, against which null."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clearweight.artifact import OTHER, Drift, NullDistribution
from clearweight.service.drift.bernoulli_cusum import BernoulliCusum
from clearweight.service.drift.chart import Chart
from clearweight.service.drift.cusum import Cusum
from clearweight.service.drift.ewma import Ewma, ewma_weight
from clearweight.service.drift.null import (
    GUARD,
    Null,
    class_distribution,
    event_null,
    event_rate_bound,
    persistence,
    score_null,
)

METRIC = "pooled_cosine"
"""The score the alarm runs on."""
RISE = 0.05
"""The rise of the mean distance that the charts are tuned to find."""
OTHER_LABEL = "other"
_RARE = 0.1
"""Weight of the chart on undefined maps: most models never make one, and their budget would lie idle."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A chart and what its null is made of.

    Attributes
    ----------
    distribution : of the score; None for an event
    rate : of the event as it was counted; 0 for a score
    bound : on that rate, for the size of the calibration
    index : of the explained class; None for all classes
    share : of the calibration samples that fall into the series
    weight : of the series in the false-alarm budget; the classes of a model have 1 together, as each chart on all has
    """

    chart: Chart
    distribution: NullDistribution | None
    rate: float = 0.0
    bound: float = 0.0
    index: int | None = None
    share: float = 1.0
    weight: float = 1.0

    def null(self, dependence: NDArray[np.float64] | None, guard: float = 0.0) -> Null:
        """Return the stream to expect; ``dependence`` as measured live, None for the shipped one."""
        if self.distribution is None:
            return event_null(self.bound if guard > 0.0 else self.rate, dependence)
        return score_null(self.distribution, rise=RISE, guard=guard, dependence=dependence)

    def limits(self, dependence: NDArray[np.float64] | None, samples: float) -> tuple[float, float]:
        """Solve warning and alarm limit for one false alarm in ``samples`` scores of the series."""
        return self.chart.solved(self.null(dependence), self.null(dependence, GUARD), samples)


def charts_of(shipped: Drift, labels: Sequence[str]) -> list[Watched]:
    """Return every chart of a model: two on the score, two on events, one on the score of each class.

    Parameters
    ----------
    shipped : Drift
    labels : names of the classes, for the report; an index beyond them is its own name
    """
    null = shipped.scores[METRIC]
    plain = score_null(null, rise=RISE)
    deviation = null.std * persistence(plain.coefficients) ** 0.5
    floor = null.runtime_floor
    flips = shipped.scores.get("disagreement")
    flipped = flips.mean * flips.samples if flips else 0.0
    flip_bound = event_rate_bound(flipped, null.samples)
    undefined_bound = event_rate_bound(null.undefined, null.samples)
    watched = [
        Watched(
            Chart(METRIC, Ewma(null.mean, ewma_weight(deviation, RISE)), floor=floor, clip=plain.clip), null
        ),
        Watched(Chart(METRIC, Cusum(null.mean, RISE, floor), clip=plain.clip), null),
        Watched(
            Chart("disagreement", BernoulliCusum(flip_bound), clip=1.0),
            None,
            flipped / null.samples,
            flip_bound,
        ),
        Watched(
            Chart("undefined", BernoulliCusum(undefined_bound), clip=1.0),
            None,
            null.undefined / null.samples,
            undefined_bound,
            weight=_RARE,
        ),
    ]
    everyone = sum(entry.samples for entry in shipped.classes)
    for entry in shipped.classes:
        own = class_distribution(null, entry)
        label = OTHER_LABEL if entry.index == OTHER else _label(entry.index, labels)
        clip = score_null(own, rise=RISE).clip
        chart = Chart(METRIC, Cusum(own.mean, RISE, floor), label=label, clip=clip)
        share, weight = entry.samples / everyone, 1.0 / len(shipped.classes)
        watched.append(Watched(chart, own, index=entry.index, share=share, weight=weight))
    return watched


def _label(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else str(index)
