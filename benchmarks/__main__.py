"""``python -m benchmarks NAME [--data DIR] [--json FILE] [--quick] [--networks NETWORK ...]``."""

import argparse
import importlib
import inspect
import sys
from pathlib import Path

from rich.console import Console

from benchmarks import BENCHMARKS
from benchmarks.row import MissingDataError, Row, show, write_json


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark; 0 when it ran, 2 when its data or name is missing."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=sorted(BENCHMARKS))
    parser.add_argument("--data", type=Path, help="folder that holds the data folders (mnist, cifar10, ...)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--quick", action="store_true", help="a smoke run: smaller data, one seed")
    parser.add_argument("--networks", nargs="+", help="only these, where a benchmark can be asked for some")
    options = parser.parse_args(arguments)
    module = importlib.import_module(BENCHMARKS[options.name])
    further = {} if options.networks is None else {"networks": options.networks}
    if further and "networks" not in inspect.signature(module.run).parameters:
        parser.error(f"{options.name} cannot be asked for some networks only.")
    try:
        rows: list[Row] = list(module.run(options.data, quick=options.quick, **further))
    except MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    show(rows, Console())
    if options.json is not None:
        write_json(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
