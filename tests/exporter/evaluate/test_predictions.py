"""Rows about predictions, counted by hand on ten images."""

import numpy as np
import pytest

from clearweight.exporter.evaluate import (
    agreement_percent,
    compare_predictions,
    error_percent,
    negative_flips_percent,
)

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
REFERENCE = np.eye(3)[[0, 1, 2, 0, 1, 2, 0, 1, 0, 1]]  # wrong on the last two
OWN = np.eye(3)[[0, 1, 2, 0, 1, 0, 0, 2, 2, 1]]  # wrong on 5, 7 and 9; right again on 8


def test_each_row_is_a_count():
    assert error_percent(REFERENCE, LABELS) == 20.0
    assert error_percent(OWN, LABELS) == 30.0
    assert agreement_percent(REFERENCE, OWN) == 70.0
    assert negative_flips_percent(REFERENCE, OWN, LABELS) == 20.0


def test_comparison_has_all_rows_and_a_paired_interval():
    result = compare_predictions(REFERENCE, OWN, LABELS)
    differences = np.array([0, 0, 0, 0, 0, 1, 0, 1, -1, 0]) * 100.0
    half = 1.959964 * differences.std(ddof=1) / 10**0.5

    assert (result.reference_error_percent, result.error_percent, result.error_delta_pt) == (20.0, 30.0, 10.0)
    assert (result.agreement_percent, result.negative_flips_percent) == (70.0, 20.0)
    assert result.error_delta_interval_pt == pytest.approx((10.0 - half, 10.0 + half))
