import logging

import pytest

from clearweight.service.core import errors
from clearweight.service.rest import STATUS
from clearweight.service.rpc import CODES


def concrete(root=errors.ServiceError):
    return {leaf for child in root.__subclasses__() for leaf in (concrete(child) or {child})}


@pytest.mark.parametrize("table", [STATUS, CODES], ids=["rest", "grpc"])
def test_every_error_has_a_code_in_each_transport(table):
    assert concrete() == set(table)


def test_every_error_is_also_the_builtin_it_resembles():
    assert all(len(error.__mro__) > 4 for error in concrete())


def test_the_callers_mistakes_are_4xx_and_ours_5xx():
    assert {STATUS[errors.InvalidRequestError], STATUS[errors.NotFoundError]} == {400, 404}
    assert STATUS[errors.InternalError] == 500


def test_an_unexpected_error_shows_a_reference_and_logs_the_cause(caplog):
    with caplog.at_level(logging.ERROR, "clearweight.service"):
        shown = errors.internal(ZeroDivisionError("secret path /etc"))

    assert "secret" not in str(shown)
    reference = str(shown).removeprefix("Internal error. Reference ").rstrip(".")
    assert reference in caplog.text
    assert "secret path" in caplog.text
