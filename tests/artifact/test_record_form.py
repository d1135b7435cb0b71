from dataclasses import dataclass, field

import pytest

from clearweight.artifact.errors import FieldTypeError, FieldValueError, MissingFieldError, UnknownFieldError
from clearweight.artifact.record_form import OPTIONAL, from_form, to_form


@dataclass(frozen=True)
class Leaf:
    number: int
    share: float | None


@dataclass(frozen=True)
class Branch:
    name: str
    on: bool
    leaves: tuple[Leaf, ...]
    table: dict[str, float]


BRANCH = Branch("b", True, (Leaf(1, 0.5), Leaf(2, None)), {"x": 1.0})
FORM = {
    "name": "b",
    "on": True,
    "leaves": [{"number": 1, "share": 0.5}, {"number": 2, "share": None}],
    "table": {"x": 1.0},
}


def test_records_and_forms_are_a_pair():
    assert to_form(BRANCH) == FORM
    assert from_form(Branch, FORM, "here") == BRANCH


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": 1}, "here.name"),
        ({"on": 1}, "here.on"),
        ({"leaves": {}}, "here.leaves"),
        ({"leaves": [1]}, r"here.leaves\[0\]"),
        ({"leaves": [{"number": 1.0, "share": None}]}, r"here.leaves\[0\].number"),
        ({"leaves": [{"number": True, "share": None}]}, r"here.leaves\[0\].number"),
        ({"leaves": [{"number": 1, "share": 1}]}, r"here.leaves\[0\].share"),
        ({"leaves": [{"number": 1, "share": "1"}]}, r"here.leaves\[0\].share"),
        ({"table": []}, "here.table"),
        ({"table": {"x": None}}, "here.table.x"),
        ({"name": None}, "here.name"),
    ],
)
def test_another_type_is_refused_with_its_place(change, where):
    with pytest.raises(FieldTypeError, match=where):
        from_form(Branch, {**FORM, **change}, "here")


def test_unknown_and_missing_fields_are_refused_at_every_level():
    with pytest.raises(UnknownFieldError, match=r"'extra' in here. Known fields: leaves"):
        from_form(Branch, {**FORM, "extra": 1}, "here")
    with pytest.raises(UnknownFieldError, match=r"'x' in here.leaves\[0\]"):
        from_form(Branch, {**FORM, "leaves": [{"number": 1, "share": None, "x": 1}]}, "here")
    with pytest.raises(MissingFieldError, match="'on' is missing in here"):
        from_form(Branch, {key: value for key, value in FORM.items() if key != "on"}, "here")
    with pytest.raises(FieldTypeError):
        from_form(Branch, [], "here")


def test_numbers_beyond_64_bits_and_infinities_are_refused():
    for number in (2**63, -(2**63)):
        with pytest.raises(FieldValueError):
            from_form(Leaf, {"number": number, "share": None}, "here")
    with pytest.raises(FieldValueError):
        from_form(Leaf, {"number": 1, "share": float("inf")}, "here")


@dataclass(frozen=True)
class Grown:
    name: str
    later: str | None = field(default=None, metadata=OPTIONAL)


def test_a_field_that_joined_later_is_left_out_where_it_is_none():
    for record, form in ((Grown("a"), {"name": "a"}), (Grown("a", "b"), {"name": "a", "later": "b"})):
        assert to_form(record) == form
        assert from_form(Grown, form, "here") == record
    with pytest.raises(FieldTypeError, match=r"here.later is NoneType"):
        from_form(Grown, {"name": "a", "later": None}, "here")
    with pytest.raises(MissingFieldError, match="'name'"):
        from_form(Grown, {"later": "b"}, "here")
