"""Geometry of the charts by hand."""

import numpy as np
import pytest

from clearweight.exporter.errors import DataError
from clearweight.exporter.report.chart import BINS, histogram, stage_bars


def test_bars_add_up_the_tensors_and_end_with_the_file(manifest):
    bars = stage_bars(manifest.ledger)

    assert [(bar.name, bar.bytes) for bar in bars] == [
        ("float32", 5200),
        ("pruned", 1690),
        ("shared", 785),
        ("packed", 511),
        ("file, with headers", 541),
    ]
    assert [bar.share for bar in bars] == pytest.approx([1.0, 0.325, 785 / 5200, 511 / 5200, 541 / 5200])
    assert bars[-1].bits_per_weight == pytest.approx(8 * 541 / 1300)
    assert bars[-1].ratio == pytest.approx(5200 / 541)


def test_tensors_with_other_stages_are_a_named_error(manifest, replaced):
    first, second = manifest.ledger.rows
    ledger = replaced(manifest.ledger, rows=(first, replaced(second, stages=second.stages[:2])))

    with pytest.raises(DataError, match=r"'fc1\.bias' has stages"):
        stage_bars(ledger)


def test_columns_count_every_score_and_the_tallest_is_one():
    scores = np.random.default_rng(71).beta(1.2, 18, 500)

    found = histogram(np.append(scores, np.nan))

    assert sum(count for *_, count in found.columns) == 500
    assert max(height for _, _, height, _ in found.columns) == 1.0
    assert len(found.columns) == BINS
    assert (found.samples, found.undefined, found.low, found.high) == (500, 1, 0.0, scores.max())


def test_marks_stand_at_the_quantiles():
    found = histogram(np.linspace(0.0, 0.5, 1001))

    assert [(name, round(position, 6), round(value, 6)) for name, position, value in found.marks] == [
        ("median", 0.5, 0.25),
        ("95 %", 0.95, 0.475),
        ("99 %", 0.99, 0.495),
    ]


def test_equal_scores_and_no_scores_are_drawn_or_left_out():
    assert histogram(np.zeros(5)).columns[0][3] == 5
    assert histogram(np.array([np.nan])) is None
    assert histogram(np.array([])) is None
