"""Progress of an export on a terminal: one bar per piece of training, checking, measuring and writing."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


class ProgressBars:
    """Callable that the pipeline feeds with (what, step, steps, loss); use it in a ``with`` block.

    Standard output stays free for results: bars go to standard error, and only when that is a terminal. Elsewhere
    each finished piece of work is one line.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._running: dict[str, int] = {}
        self._tasks: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, what: str, step: int, steps: int, loss: float | None) -> None:
        """Show that ``what`` has done ``step`` of ``steps``; ``loss`` is None for work that has none."""
        if step <= self._running.get(what, steps):  # it begins, or begins again
            self._tasks[what] = self._progress.add_task(what, total=steps, note="")
        self._running[what] = step
        note = "" if loss is None else f"loss {loss:.4f}"
        self._progress.update(self._tasks[what], completed=step, note=note)  # type: ignore[arg-type]  # TaskID is an int
        if step == steps and not self._console.is_terminal:
            self._console.print(f"{what}: {steps} steps" + (f", {note}" if note else ""))
