"""Numbers in words."""

from clearweight.exporter.report import quantity


def test_each_kind_is_written_as_people_read_it():
    assert quantity.in_bytes(1066440) == "1\u202f066\u202f440\u202fB"
    assert quantity.percent(0.98765) == "98.77\u202f%"
    assert quantity.percent(0.5, 0) == "50\u202f%"
    assert quantity.decimal(-0.12345) == "−0.123"
    assert quantity.times(40.96) == "41.0×"
    assert quantity.shape((20, 1, 5, 5)) == "20 × 1 × 5 × 5"
    assert quantity.shape(()) == "scalar"


def test_what_is_missing_is_said():
    for write in (quantity.in_bytes, quantity.percent, quantity.decimal, quantity.times):
        assert write(None) == "n/a"


def test_a_device_that_needs_more_than_the_reference_is_called_larger():
    assert quantity.smaller(12.04) == "12.0× smaller"
    assert quantity.smaller(0.5) == "2.0× larger"
    assert quantity.smaller(None) == quantity.MISSING
