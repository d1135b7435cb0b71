"""Undoing broadcasting: the one place where a gradient is summed back to the shape of its input."""

from clearweight.exporter.autodiff.emit import Emit


def sum_to(emit: Emit, dx: str, x: str) -> str:
    """Sum a gradient over the axes along which ``x`` was repeated.

    ``y = broadcast(x);  dx = sum of dy over the repeated axes``. Where the graph fixes the shapes the axes are
    constants; where an axis of ``x`` is open, whether it is 1 is read from ``Shape`` at run time.

    Parameters
    ----------
    dx : gradient in the shape of ``x`` or in one that ``x`` broadcasts to
    """
    target, source = emit.shape(x), emit.shape(dx)
    extra = len(source) - len(target)
    aligned = source[extra:]
    if any(
        not isinstance(own, int) and (own is None or own != got)
        for own, got in zip(target, aligned, strict=True)
    ):
        return _sum_at_run_time(emit, dx, x, extra)
    repeated = [
        axis + extra for axis, (own, got) in enumerate(zip(target, aligned, strict=True)) if own == 1 != got
    ]
    axes = [*range(extra), *repeated]
    if not axes:
        return dx
    summed = emit.sum(dx, axes, keepdims=not extra)
    return emit.reshape_like(summed, x) if extra else emit.graph.narrow(summed, target)


def _sum_at_run_time(emit: Emit, dx: str, x: str, extra: int) -> str:
    size = emit.op("Shape", x)
    if extra:
        dx = emit.sum(dx, range(extra), keepdims=False)
    ones = emit.op("NonZero", emit.op("Equal", size, emit.ints(1)))
    axes = emit.op("Reshape", ones, emit.ints([-1]))
    # Summing an axis of size 1 changes nothing, so axes that were not repeated do no harm.
    summed = emit.op("ReduceSum", dx, axes, keepdims=1, noop_with_empty_axes=1)
    return emit.graph.narrow(emit.op("Reshape", summed, size), emit.shape(x))
