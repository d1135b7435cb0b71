"""The lines of sizes in an export's summary."""

from clearweight.cli.sizes import size_lines


def test_packed_weights_and_device_are_compared_with_the_reference():
    facts = {
        "reference_bytes": 16_520,
        "packed_bytes": 1_652,
        "device_bytes": 33_040,
        "ratio": 10.0,
        "device_ratio": 0.5,
    }

    assert size_lines(facts) == [
        "  reference        16,520 B",
        "  packed            1,652 B  10.0x smaller; weights.cwt alone",
        "  device           33,040 B  2.0x larger; all that a device needs",
    ]
