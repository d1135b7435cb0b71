"""The further inputs of explain graphs: what they are, and that they never change."""

import numpy as np
import pytest

from clearweight.artifact import EXPLAIN_INPUTS, explain_inputs
from clearweight.artifact.errors import FieldValueError

SHAPE = (3, 2, 6, 5)
SETTINGS = {"grid": 4.0, "keep": 0.5}
NOISE = [0.76773441, -0.88979226, 1.28098404]


def made(*names, steps=4, seed=7, **changes):
    return explain_inputs(names, SHAPE, steps=steps, seed=seed, settings=SETTINGS, **changes)


def test_shapes_and_types_of_every_input():
    found = made(*EXPLAIN_INPUTS)

    assert {name: values.shape for name, values in found.items()} == {
        "baseline": SHAPE,
        "path": (4,),
        "path_weight": (4,),
        "noise": (4, 2, 6, 5),
        "masks": (4, 5, 5),
        "shifts": (4, 2),
    }
    assert all(values.dtype == np.float32 for values in found.values())


def test_the_path_integrates_polynomials_up_to_twice_its_points_exactly():
    found = made("path", "path_weight", steps=5)
    for power in range(10):
        integral = (found["path_weight"].astype(float) * found["path"].astype(float) ** power).sum()
        assert integral == pytest.approx(1 / (power + 1), abs=1e-6)


def test_the_same_seed_gives_the_same_bits_for_ever():
    noise = made("noise")["noise"]

    assert noise.ravel()[:3].tolist() == pytest.approx(NOISE, abs=1e-7)
    assert not np.array_equal(noise, made("noise", seed=8)["noise"])


def test_one_input_does_not_move_another():
    together = made("noise", "masks", "shifts")
    for name, values in together.items():
        np.testing.assert_array_equal(made(name)[name], values)


def test_masks_keep_cells_with_the_probability_asked_for():
    masks = explain_inputs(("masks",), (1, 9), steps=4000, seed=0, settings={"grid": 4.0, "keep": 0.3})[
        "masks"
    ]

    assert masks.shape == (4000, 5)
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert masks.mean() == pytest.approx(0.3, abs=0.02)


def test_shifts_and_noise_have_the_moments_they_promise():
    found = made("noise", "shifts", steps=3000)

    assert found["shifts"].min() >= 0
    assert found["shifts"].max() < 1
    assert found["shifts"].mean() == pytest.approx(0.5, abs=0.02)
    assert found["noise"].mean() == pytest.approx(0, abs=0.01)
    assert found["noise"].std() == pytest.approx(1, abs=0.01)


def test_one_baseline_row_serves_the_batch():
    row = np.arange(60, dtype=np.float32).reshape(1, 2, 6, 5)

    assert np.array_equal(made("baseline", baseline=row)["baseline"], np.repeat(row, 3, axis=0))
    assert not made("baseline")["baseline"].any()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"baseline": np.zeros((2, 2, 6, 5), np.float32)}, r"shape \(2, 2, 6, 5\), expected \(3, 2, 6, 5\)"),
        ({"baseline": np.zeros((3, 2, 6), np.float32)}, "expected"),
        ({"steps": 0}, "0 steps, expected at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(changes, says):
    with pytest.raises(FieldValueError, match=says):
        made("baseline", **changes)


def test_an_unknown_input_is_refused_by_name():
    with pytest.raises(FieldValueError, match="No explain input 'noises'"):
        made("noises")
