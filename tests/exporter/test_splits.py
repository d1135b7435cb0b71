"""Splits are disjoint, distinct and known by their digests."""

import hashlib

import numpy as np
import pytest

from clearweight.exporter import SplitError
from clearweight.exporter.data import Labelled
from clearweight.exporter.splits import check_disjoint, digest, split


def numbered(count, dtype=np.float32):
    return Labelled(np.arange(count, dtype=dtype).reshape(count, 1), np.arange(count, dtype=np.int64))


def test_every_distinct_sample_is_in_exactly_one_part():
    parts = split(numbered(50), validation=10, calibration=7, seed=3)

    sizes = [len(p) for p in (parts.fit, parts.validation, parts.calibration)]
    seen = np.concatenate([p.labels for p in (parts.fit, parts.validation, parts.calibration)])
    assert sizes == [33, 10, 7]
    assert sorted(seen.tolist()) == list(range(50))


def test_inputs_keep_their_labels():
    parts = split(numbered(50), validation=10, calibration=7, seed=3)

    for part in (parts.fit, parts.validation, parts.calibration):
        assert np.array_equal(part.inputs[:, 0], part.labels)


def test_copies_of_an_input_count_once():
    data = numbered(20)
    doubled = Labelled(np.concatenate([data.inputs, data.inputs]), np.concatenate([data.labels, data.labels]))

    parts = split(doubled, validation=5, calibration=5, seed=0)

    assert len(parts.fit) == 10
    check_disjoint(fit=parts.fit, validation=parts.validation, calibration=parts.calibration)


def test_the_same_seed_cuts_the_same_way_and_another_does_not():
    first, again, other = (split(numbered(50), validation=10, calibration=7, seed=s) for s in (1, 1, 2))

    assert first.digests() == again.digests()
    assert first.digests() != other.digests()


def test_too_few_samples_are_named():
    with pytest.raises(
        SplitError, match=r"10 distinct samples, expected more than validation 6 \+ calibration 4"
    ):
        split(numbered(10), validation=6, calibration=4, seed=0)


def test_overlap_is_refused_whatever_the_labels_say():
    data = numbered(10)
    relabelled = Labelled(data.inputs[7:], np.zeros(3, np.int64))

    with pytest.raises(SplitError, match="'fit' and 'test' share 3 inputs, expected none"):
        check_disjoint(fit=data, test=relabelled)


def test_the_digest_is_the_sha256_of_type_shape_inputs_and_labels():
    part = Labelled(np.array([[1], [2]], np.uint8), np.array([0, 258], np.int64))

    plain = b"|u1 (2, 1)" + b"\x01\x02" + b"\0" * 8 + b"\x02\x01" + b"\0" * 6
    assert digest(part) == hashlib.sha256(plain).hexdigest()


def test_the_digest_sees_a_changed_label():
    part = numbered(3)

    assert digest(part) != digest(Labelled(part.inputs, part.labels[::-1].copy()))
