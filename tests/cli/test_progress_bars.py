"""Progress on standard error: bars on a terminal, a line per finished piece elsewhere."""

import io

from rich.console import Console

from clearweight.cli.progress_bars import ProgressBars


def run(*, terminal):
    stream = io.StringIO()
    with ProgressBars(Console(file=stream, force_terminal=terminal, width=100)) as bars:
        for what in ("reference", "prune", "reference"):
            for step in (50, 100, 120):
                bars(what, step, 120, 0.5)
    return stream.getvalue()


def test_without_a_terminal_each_finished_piece_is_a_line():
    line = "{}: 120 steps, loss 0.5000"

    assert run(terminal=False).splitlines() == [line.format(w) for w in ("reference", "prune", "reference")]


def test_on_a_terminal_a_repeated_piece_has_a_bar_of_its_own():
    last = run(terminal=True).split("\x1b[2K")[-8:]

    assert sum("reference" in part for part in last) >= 2
    assert any("120/120" in part for part in last)


def test_pieces_that_report_once_are_seen():
    stream = io.StringIO()
    with ProgressBars(Console(file=stream)) as bars:
        bars("prune", 3, 3, 1.0)
        bars("prune", 3, 3, 1.0)

    assert stream.getvalue().count("prune: 3 steps") == 2


def test_work_without_a_loss_shows_its_count_alone():
    stream = io.StringIO()
    with ProgressBars(Console(file=stream)) as bars:
        bars("measure", 1, 2, None)
        bars("measure", 2, 2, None)

    assert stream.getvalue() == "measure: 2 steps\n"
