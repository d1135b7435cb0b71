"""What one trial of a search came to, and which of them is chosen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clearweight.exporter.sections import FidelitySection, SearchSection

Strengths = Mapping[str, float]


@dataclass(frozen=True)
class Outcome:
    """One trial, measured on the validation split.

    Attributes
    ----------
    strengths : range name -> value
    accuracy_drop : as a share
    similarity : mean cosine of the default explainer's maps to the reference's, undefined ones as 0
    latency : time of a prediction over the reference's; None where no budget asks for it
    """

    number: int
    strengths: Strengths
    packed_bytes: int
    accuracy_drop: float
    similarity: float
    latency: float | None

    def missing(self, fidelity: FidelitySection, search: SearchSection) -> float:
        """Return how far outside the budget this is, 0 inside: the sum of what each limit is exceeded by.

        Accuracy and similarity as shares, bytes and latency relative to their limits.
        """
        excess = [
            self.accuracy_drop - fidelity.max_accuracy_drop,
            fidelity.min_attribution_similarity - self.similarity,
        ]
        if search.max_bytes is not None:
            excess.append(self.packed_bytes / search.max_bytes - 1.0)
        if search.max_latency is not None and self.latency is not None:
            excess.append(self.latency / search.max_latency - 1.0)
        return sum(max(part, 0.0) for part in excess)

    def dominates(self, other: "Outcome") -> bool:
        """Tell whether this is nowhere worse and somewhere better in bytes, accuracy and similarity."""
        own = (self.packed_bytes, self.accuracy_drop, -self.similarity)
        others = (other.packed_bytes, other.accuracy_drop, -other.similarity)
        return own != others and all(a <= b for a, b in zip(own, others, strict=True))


@dataclass(frozen=True)
class Searched:
    """What a search came to.

    Attributes
    ----------
    best : the smallest outcome inside the budget; where there is none, the one that misses least
    outcomes : every trial that was measured, in order
    """

    best: Outcome
    inside: bool
    outcomes: tuple[Outcome, ...]


def pareto_front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the outcomes that no other dominates, the smallest first."""
    kept = [o for o in outcomes if not any(other.dominates(o) for other in outcomes)]
    return sorted(kept, key=lambda outcome: (outcome.packed_bytes, outcome.number))


def chosen(outcomes: Sequence[Outcome], fidelity: FidelitySection, search: SearchSection) -> Searched:
    """Pick the smallest outcome inside the budget, or the one nearest to it."""
    best = min(outcomes, key=lambda o: (o.missing(fidelity, search), o.packed_bytes, o.number))
    return Searched(best, best.missing(fidelity, search) == 0.0, tuple(outcomes))
