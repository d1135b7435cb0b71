"""One measured number, the data folders it may need, and how numbers are shown."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One number; ``value`` None with unit ``n/a`` where there is none."""

    bench: str
    case: str
    metric: str
    value: float | None
    unit: str


class MissingDataError(FileNotFoundError):
    """A benchmark's data folder is not where it was looked for."""


def data_folder(data: Path | None, name: str) -> Path:
    """Find a benchmark's data.

    Raises
    ------
    MissingDataError
        No ``--data`` was given, or it lacks the folder.
    """
    if data is None:
        raise MissingDataError(f"This benchmark needs the folder {name!r}: give --data DIR that holds it.")
    folder = data / name
    if not folder.is_dir():
        raise MissingDataError(
            f"Looked for the folder {folder}, found none: give --data DIR that holds {name!r}."
        )
    return folder


def show(rows: Iterable[Row], console: Console) -> None:
    """Print rows as a table."""
    table = Table("bench", "case", "metric", "value", "unit")
    for row in rows:
        table.add_row(
            row.bench, row.case, row.metric, "" if row.value is None else f"{row.value:.6g}", row.unit
        )
    console.print(table)


def write_json(rows: Iterable[Row], path: Path) -> None:
    """Write rows as a JSON array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
