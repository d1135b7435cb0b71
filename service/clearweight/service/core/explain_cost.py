"""What an explanation costs before it runs: rows of the network and elements, against the limits of one request."""

from math import prod

from clearweight.artifact import Explainer
from clearweight.service.core.errors import TooLargeError
from clearweight.service.core.parameters import ExplainOptions, takes_steps
from clearweight.service.core.types import Limits

# Every step of these is a row of one batch; masks run in chunks, so that only the masks themselves add up.
_BATCHED = frozenset({"path", "noise"})


def check_cost(options: ExplainOptions, shape: tuple[int, ...], limits: Limits) -> None:
    """Refuse an explanation that would take too much of the machine, before anything is made for it.

    Parameters
    ----------
    shape : (N, *row) of the model's input

    Raises
    ------
    TooLargeError
        N x steps is above ``limits.explain_rows``, or the batch that the graph makes of them is above
        ``limits.elements``; the text says what was asked, what the limit is and what would fit.
    """
    rows = shape[0] * options.steps
    if rows > limits.explain_rows:
        raise TooLargeError(
            f"Method {options.method!r} runs the network on {shape[0]} rows x {options.steps} steps = {rows} rows, "
            f"the limit of one request is {limits.explain_rows}. "
            + _what_fits(options, shape[0], limits.explain_rows)
        )
    per_step = _elements_per_step(options.explainer, shape)
    if per_step * options.steps > limits.elements:
        raise TooLargeError(
            f"Method {options.method!r} makes {per_step * options.steps} elements of {shape[0]} rows and "
            f"{options.steps} steps, the limit is {limits.elements}. "
            + _what_fits(options, shape[0], limits.elements // max(1, per_step // shape[0]))
        )


def most_rows(options: ExplainOptions, shape: tuple[int, ...], limits: Limits) -> int:
    """Return how many rows one run of this method may have: those that the limits allow a single request."""
    rows = limits.explain_rows // options.steps
    per_step = _elements_per_step(options.explainer, (1, *shape[1:]))
    return min(rows, limits.elements // (per_step * options.steps)) if per_step else rows


def _elements_per_step(explainer: Explainer, shape: tuple[int, ...]) -> int:
    if _BATCHED & set(explainer.inputs):
        return prod(shape)
    return 0


def _what_fits(options: ExplainOptions, rows: int, most: int) -> str:
    """Say which batch and which number of steps stay within ``most`` rows of the network."""
    fits = []
    if most >= options.steps:
        fits.append(f"at most {most // options.steps} rows at {options.steps} steps")
    if takes_steps(options.explainer) and most >= rows:
        fits.append(f"at most {most // rows} steps for {rows} rows")
    if fits:
        return f"What fits: {', or '.join(fits)}."
    return "No batch fits: this method needs a service with a higher limit."
