"""The conformance list against this server and its peers: which case passes, 1 or 0, per server.

Every server serves the same ONNX file, the peers (``peers.py``) through a custom model as their documentation shows it.

``python -m benchmarks.conformance`` runs all of it and writes the table of docs/conformance.md.
"""

import inspect
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.peers import ROOT, Peer, installed, running
from benchmarks.row import Row
from tests.conformance import models
from tests.conformance.cases import CASES, Case
from tests.conformance.target import Oracle, Target, served

BENCH = "conformance"
PAGE = ROOT / "docs" / "conformance.md"
SPEAKS_THE_PROTOCOL = ("mlserver", "kserve")
CHOICES = ("2c", "7b", "23c", "38b")
"""Cases that hold this project to a choice of its own."""
OPTIONAL = (*(str(number) for number in range(26, 41)), "49", "50")
"""Cases of extensions (binary tensors, repository) and of V1, and those that need an extension."""


@dataclass(frozen=True)
class Verdict:
    """What came of one case at one server.

    Attributes
    ----------
    passed : None where the suite has not what the case needs
    instead : the status or gRPC code that a request ended with where another was expected, as far as it came to that
    """

    passed: bool | None
    instead: str = ""

    def __str__(self) -> str:
        """A cell of the table."""
        if self.passed is None:
            return "-"
        return "yes" if self.passed else f"**no** {self.instead}".strip()


@contextmanager
def peer_target(peer: Peer) -> Iterator[Target]:
    """Start a peer."""
    model = models.onnx_file()
    with running(peer, model, models.MODEL) as found:
        address = f"127.0.0.1:{found.grpc}"
        target = Target(f"http://127.0.0.1:{found.http}", address, models.MODEL, Oracle(model))
        try:
            yield target
        finally:
            target.close()


def judge(case: Case, target: Target) -> Verdict:
    """Ask a server one case."""
    if case.needs - target.can:
        return Verdict(None)
    with tempfile.TemporaryDirectory() as folder:
        wanted = [target, Path(folder)][: len(inspect.signature(case.check).parameters)]
        try:
            case.check(*wanted)
        except Exception as error:  # noqa: BLE001  # whatever a server does to a case, the case has failed
            if os.environ.get("CLEARWEIGHT_CONFORMANCE_SHOW"):
                print(case.number, repr(error)[:300], getattr(error, "__notes__", ""), file=sys.stderr)
            return Verdict(False, instead_of_expected(str(error)))
    return Verdict(True)


def instead_of_expected(text: str) -> str:
    """Return the status or code of a failure that says one, with another that was expected; else nothing."""
    found = re.match(
        r"(?:StatusCode\.)?([0-9]{3}|[A-Z_]+) .*, expected (?:[0-9]{3}|StatusCode\.)", text, re.DOTALL
    )
    return found[1] if found else ""


@contextmanager
def ours() -> Iterator[Target]:
    """Start this server with every model of the suite."""
    with tempfile.TemporaryDirectory() as folder:
        out = models.write_models(Path(folder))
        with served(out, Oracle(models.onnx_file()), models.MODEL, log_level="error") as server:
            yield server.target


def results(*, quick: bool) -> dict[str, dict[str, Verdict]]:
    """Return case number to verdict, per server; peers that are not installed are left out."""
    servers: dict[str, Callable[[], AbstractContextManager[Target]]] = {"clearweight": ours}
    for name, peer in {} if quick else installed().items():
        if name in SPEAKS_THE_PROTOCOL:
            servers[f"{peer.title} {peer.version}"] = partial(peer_target, peer)
    found = {}
    for name, start in servers.items():
        with start() as target:
            found[name] = {case.number: judge(case, target) for case in CASES}
    return found


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Yield a row per case and server."""
    del data
    for server, cases in results(quick=quick).items():
        for number, verdict in cases.items():
            value = None if verdict.passed is None else float(verdict.passed)
            yield Row(BENCH, f"{server}/{number}", "passes", value, "n/a" if value is None else "1 or 0")


def table(found: dict[str, dict[str, Verdict]]) -> str:
    """Return the table of docs/conformance.md."""
    lines = [f"| Case | | {' | '.join(found)} |", f"|---|---|{'---|' * len(found)}"]
    for case in sorted(CASES, key=lambda case: (int(case.number.rstrip("bcd")), case.number)):
        cells = " | ".join(str(cases[case.number]) for cases in found.values())
        lines.append(f"| {case.number} | {case.title} | {cells} |")
    asked = [
        case.number
        for case in CASES
        if all(cases[case.number].passed is not None for cases in found.values())
    ]
    required = [number for number in asked if number not in CHOICES and number.rstrip("bcd") not in OPTIONAL]
    return "\n".join(
        [
            *lines,
            _sums("passed, of the cases that all could be asked", asked, found),
            _sums("the same without extensions, V1 and this project's choices", required, found),
        ]
    )


def _sums(title: str, numbers: list[str], found: dict[str, dict[str, Verdict]]) -> str:
    counts = (sum(bool(cases[number].passed) for number in numbers) for cases in found.values())
    return f"| | **{title}** | {' | '.join(f'{count} of {len(numbers)}' for count in counts)} |"


def main() -> None:
    """Write the table into its page."""
    begin, end = "<!-- table -->\n", "\n<!-- end of table -->"
    page = PAGE.read_text(encoding="utf-8")
    head, tail = page[: page.index(begin) + len(begin)], page[page.index(end) :]
    PAGE.write_text(head + table(results(quick=False)) + tail, encoding="utf-8")


if __name__ == "__main__":
    main()
