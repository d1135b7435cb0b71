"""A search inside a budget, as it is seen on a terminal: every trial, and the front of what was found so far."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from clearweight.exporter.outcome import Outcome, Searched
    from clearweight.exporter.recipe import Recipe


def search_inside(
    recipe: "Recipe", work: Path, console: "Console", backend: str
) -> "tuple[Recipe, Searched]":
    """Search the recipe's ranges, show the front, and return the recipe with the strengths that won."""
    from clearweight.exporter.search import search
    from clearweight.exporter.trial import with_strengths

    limits = recipe.search
    assert limits is not None  # noqa: S101 - the caller asked; this tells the type checker

    def told(outcome: "Outcome", so_far: "Sequence[Outcome]") -> None:
        from clearweight.exporter.outcome import pareto_front

        missing = outcome.missing(recipe.fidelity, limits)
        place = "inside" if missing == 0.0 else f"outside by {missing:.3f}"
        mark = "*" if outcome in pareto_front(so_far) else " "
        console.print(
            f"{mark} trial {len(so_far)}/{limits.trials}: {line(outcome)}; {place}", highlight=False
        )

    found = search(recipe, work, on_trial=told, backend=backend)
    console.print(front_table(found))
    if not found.inside:
        console.print(f"Nothing inside the budget was found; the nearest: {line(found.best)}.")
    return with_strengths(recipe, found.best.strengths), found


def line(outcome: "Outcome") -> str:
    """Write one outcome."""
    strengths = ", ".join(f"{name} {value:.4g}" for name, value in outcome.strengths.items())
    latency = "" if outcome.latency is None else f", latency {outcome.latency:.2f}x"
    return (
        f"{outcome.packed_bytes:,} B, accuracy drop {100 * outcome.accuracy_drop:.2f} points, similarity "
        f"{outcome.similarity:.3f}{latency} ({strengths})"
    )


def front_table(found: "Searched") -> Table:
    """Return the Pareto front as a table; the chosen outcome is marked."""
    from clearweight.exporter.outcome import pareto_front

    table = Table(title="Pareto front: bytes, accuracy, attribution")
    for heading in ("packed bytes", "accuracy drop", "similarity", "strengths", ""):
        table.add_column(heading)
    for outcome in pareto_front(found.outcomes):
        strengths = ", ".join(f"{name} {value:.4g}" for name, value in outcome.strengths.items())
        chosen = "chosen" if outcome == found.best else ""
        table.add_row(
            f"{outcome.packed_bytes:,}",
            f"{100 * outcome.accuracy_drop:.2f} points",
            f"{outcome.similarity:.3f}",
            strengths,
            chosen,
        )
    return table
