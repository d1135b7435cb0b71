"""The examples do what their READMEs say: digits as a whole, MNIST on small generated files."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from clearweight.artifact import Artifact
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compression import compress
from clearweight.exporter.pipeline import export
from clearweight.exporter.preparation import prepare
from clearweight.exporter.recipe import load_recipe
from clearweight.exporter.training import silent
from tests.exporter.test_data import idx_bytes

EXAMPLES = Path(__file__).parents[2] / "examples"


def shortened(section, **changes):
    """Return a recipe's section with other settings of its fine-tuning, where it has one."""
    tuned = getattr(section, "fine_tune", None)
    return section.model_copy(update={"fine_tune": tuned.model_copy(update=changes)}) if tuned else section


def short(recipe, **changes):
    return recipe.model_copy(
        update={
            "reference": shortened(recipe.reference, **changes),
            "steps": tuple(shortened(step, **changes) for step in recipe.steps),
        }
    )


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("handwriting", "lenet"):
        sys.modules.pop(name, None)


def test_digits_exports_with_a_users_module_and_no_real_image(tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES / "digits")
    recipe = short(load_recipe(Path("recipe.yaml")), epochs=3)

    found = export(recipe, tmp_path)

    artifact = Artifact.open(found.path)
    assert artifact.manifest.canaries.source == "synthetic"
    assert set(artifact.manifest.explainers) == {"gradient", "input_x_gradient", "gradcam"}
    # BatchNorm is folded: what ships are the convolutions and the linear layer alone.
    assert len(artifact.manifest.ledger.rows) == 6
    assert artifact.manifest.compressed_quality.accuracy > 0.5


@pytest.mark.slow
def test_the_digits_example_keeps_its_budget(tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES / "digits")

    assert export(load_recipe(Path("recipe.yaml")), tmp_path).manifest.fidelity.passed


def write_mnist(folder: Path) -> None:
    """Write 300 + 60 images in MNIST's form: a class is a bright row in noise."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, names, count in (("train", ("x_train", "y_train"), 300), ("t10k", ("x_test", "y_test"), 60)):
        labels = rng.integers(0, 10, count)
        images = rng.integers(0, 60, (count, 28, 28))
        images[np.arange(count), 2 * labels + 4] = 255
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images, 8)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels, 8)))
        arrays |= dict(zip(names, (images.astype(np.uint8), labels.astype(np.uint8)), strict=True))
    np.savez(folder / "mnist.npz", **arrays)


def mnist(name, folder, monkeypatch):
    """Return the example's recipe on small data in ``folder``."""
    monkeypatch.syspath_prepend(EXAMPLES / "mnist")
    (folder / "data").mkdir()
    write_mnist(folder / "data")
    (folder / name).write_text((EXAMPLES / "mnist" / name).read_text())
    recipe = short(load_recipe(folder / name), epochs=2, batch_size=50)
    return recipe.model_copy(
        update={"data": recipe.data.model_copy(update={"validation": 50, "calibration": 50})}
    )


def test_mnist_from_idx_and_from_npz_is_the_same_data(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = prepare(mnist("idx.yaml", tmp_path / "a", monkeypatch), silent, Checkpoints())
    second = prepare(mnist("npz.yaml", tmp_path / "b", monkeypatch), silent, Checkpoints())

    assert first.digests == second.digests
    assert set(first.digests) == {"fit", "validation", "calibration", "test"}
    assert sum(p.numel() for p in first.reference.parameters()) == 431_080


def test_mnist_compresses_to_the_recipes_densities(tmp_path, monkeypatch):
    from clearweight.exporter.compress import coded_tensors

    model = compress(prepare(mnist("idx.yaml", tmp_path, monkeypatch), silent, Checkpoints()))

    found = {t.name: (t.values != 0).mean() for t in coded_tensors(model)}
    assert found["fc1.weight"] == pytest.approx(0.06, abs=0.001)
    assert found["conv2.weight"] == pytest.approx(0.2, abs=0.001)


@pytest.mark.slow
def test_mnist_exports_as_a_whole(tmp_path, monkeypatch):
    found = export(mnist("idx.yaml", tmp_path, monkeypatch), tmp_path / "models")

    assert Artifact.open(found.path).manifest.ledger.reference_bytes == 4 * 431_080
