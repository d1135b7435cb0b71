"""From a recipe to the data and the reference: what does not fit is refused before any training."""

import numpy as np
import pytest
import torch
from PIL import Image

from clearweight.exporter import DataError, RecipeError, SplitError
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.preparation import load_source, make_runtime, prepare
from clearweight.exporter.sections import SourceSection
from clearweight.exporter.training import silent
from tests import small_digits
from tests.exporter.test_data import idx_bytes

QUICK = {"reference": {"fine_tune": {"epochs": 1, "batch_size": 64}}}


def prepared(checkpoints=None, progress=silent, **changes):
    return prepare(small_digits.recipe(**QUICK | changes), progress, checkpoints or Checkpoints())


def test_the_parts_are_disjoint_and_have_the_asked_sizes():
    found = prepared()

    assert (len(found.splits.validation), len(found.splits.calibration)) == (300, 150)
    assert set(found.digests) == {"fit", "validation", "calibration"}
    assert found.labels == tuple("0123456789")
    assert found.preprocessing.raw_datatype == "UINT8"
    assert found.inputs(found.test).max() == 1.0


def test_the_reference_is_frozen_and_in_evaluation_mode():
    reference = prepared().reference

    assert not reference.training
    assert not any(p.requires_grad for p in reference.parameters())


def test_the_same_seed_gives_the_same_reference_and_another_seed_does_not():
    first, again, other = prepared(), prepared(), prepared(seed=1)

    assert torch.equal(first.reference.conv1.weight, again.reference.conv1.weight)
    assert not torch.equal(first.reference.conv1.weight, other.reference.conv1.weight)


def test_a_trained_reference_is_found_again(tmp_path):
    calls = []
    first = prepared(Checkpoints(tmp_path), lambda *event: calls.append(event))
    trained = len(calls)
    again = prepared(Checkpoints(tmp_path), lambda *event: calls.append(event))

    assert trained > 0
    assert len(calls) == trained
    assert torch.equal(first.reference.fc1.weight, again.reference.fc1.weight)


def test_another_recipe_for_the_reference_is_not_mistaken_for_a_kept_one(tmp_path):
    kept = Checkpoints(tmp_path)
    first = prepared(kept)
    other = prepared(kept, reference={"fine_tune": {"epochs": 2, "batch_size": 64}})

    assert not torch.equal(first.reference.fc1.weight, other.reference.fc1.weight)


def test_labels_must_be_as_many_as_outputs():
    with pytest.raises(RecipeError, match="labels: 2 names, but the model has 10 outputs"):
        prepared(labels=["a", "b"])


def test_an_input_shape_that_the_model_refuses_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((80, 1, 6, 6)), y=np.zeros(80, int))
    data = {"source": {"npz": str(tmp_path / "x.npz")}, "validation": 5, "calibration": 5}
    model = small_digits.content()["model"] | {"input_shape": [1, 6, 6]}

    with pytest.raises(RecipeError, match=r"model.input_shape \[1, 6, 6\] does not fit the model"):
        prepared(data=data, model=model, reference=None)


def test_a_class_beyond_the_outputs_is_named(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((20, 1, 8, 8)), y=np.full(20, 10))
    data = {"source": {"npz": str(tmp_path / "x.npz")}, "validation": 5, "calibration": 5}

    with pytest.raises(DataError, match="holds class 10, but the model has 10 outputs"):
        prepared(data=data, reference=None)


def test_test_data_that_were_fitted_are_refused():
    source = small_digits.content()["data"]["source"]
    data = small_digits.content()["data"] | {"test": source}

    with pytest.raises(SplitError, match="'fit' and 'test' share"):
        prepared(data=data)


def test_a_model_without_logits_is_refused(tmp_path, monkeypatch):
    (tmp_path / "user_flat.py").write_text("import torch\ndef net(): return torch.nn.Flatten(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    model = {"callable": "user_flat:net", "input_shape": [1, 8, 8]}

    with pytest.raises(RecipeError, match=r"returns \(64,\), expected logits of shape \(N, classes\)"):
        prepared(model=model, reference=None)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz' does not exist"):
        load_source(SourceSection(npz=tmp_path / "none.npz"), (1,))


def test_pictures_are_resized_as_the_recipe_says_and_the_artifact_is_told(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for shade in range(12):
            noise = np.random.default_rng(shade).integers(0, 256, (9, 13)).astype(np.uint8)
            Image.fromarray(noise // (1 + (name == "dog"))).save(tmp_path / name / f"{shade}.png")
    folder = {"source": {"image_folder": str(tmp_path)}, "validation": 6, "calibration": 6}
    common = {"scale": 1 / 255}

    stated = {**common, "resize": "crop", "white": 200}
    found = prepared(reference=None, data={**folder, "preprocessing": stated})

    assert (found.preprocessing.resize, found.preprocessing.white) == ("crop", 200.0)
    assert found.splits.fit.inputs.shape == (12, 1, 8, 8)
    with pytest.raises(DataError, match="13 x 9 pixels, expected 8 x 8"):
        prepared(reference=None, data={**folder, "preprocessing": common})


def test_idx_files_become_inputs(tmp_path):
    images, labels = np.arange(32).reshape(2, 4, 4), np.array([1, 0])
    (tmp_path / "x").write_bytes(idx_bytes(images, 8))
    (tmp_path / "y").write_bytes(idx_bytes(labels, 8))

    found = load_source(SourceSection(idx=tmp_path / "x", idx_labels=tmp_path / "y"), (1, 4, 4))

    assert found.inputs.shape == (2, 1, 4, 4)
    assert found.inputs[1, 0, 3, 3] == 31
    assert found.labels.tolist() == [1, 0]


def test_training_runs_on_the_recipes_threads():
    before = torch.get_num_threads()
    try:
        make_runtime(small_digits.recipe(threads=2), silent)
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_num_threads(before)
