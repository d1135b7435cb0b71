"""Every case of the conformance list, over the wire."""

import inspect

import pytest

from tests.conformance.cases import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number}-{case.title}")
def test_conformance(case, target, tmp_path):
    missing = case.needs - target.can
    if missing:
        pytest.skip(f"needs {', '.join(sorted(missing))}")
    wanted = [target, tmp_path][: len(inspect.signature(case.check).parameters)]
    case.check(*wanted)


def test_numbers_are_names():
    numbers = [case.number for case in CASES]

    assert len(set(numbers)) == len(numbers)
    # One to 55, each of them in at least one case.
    assert {int(number.rstrip("bcd")) for number in numbers} == set(range(1, 56))
