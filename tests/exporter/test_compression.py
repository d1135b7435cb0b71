"""Steps run in order on a copy of the reference, keep their promises, and go on after an interruption."""

import dataclasses

import pytest
import torch

from clearweight.exporter import StepError
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compress import METHODS, coded_tensors
from clearweight.exporter.compression import compress, objective_of, step_key
from clearweight.exporter.preparation import prepare
from clearweight.exporter.training import silent
from tests import small_digits

TUNE = {"epochs": 1, "batch_size": 64}
STEPS = [
    {"prune": {"density": 0.4, "schedule": "one_shot", "fine_tune": TUNE}},
    {"share_weights": {"bits": 3, "fine_tune": TUNE}},
]


@pytest.fixture(scope="module")
def base():
    return prepare(small_digits.recipe(reference={"fine_tune": TUNE}, steps=STEPS), silent, Checkpoints())


def codes(model):
    return {t.name: t.values.tobytes() for t in coded_tensors(model)}


def test_every_step_leaves_its_constraint_and_the_reference_is_untouched(base):
    before = {n: p.clone() for n, p in base.reference.named_parameters()}
    model = compress(base)

    weight = next(t for t in coded_tensors(model) if t.name == "fc1.weight")
    assert (weight.values != 0).mean() <= 0.4
    assert weight.codebook is not None
    assert len(weight.codebook) <= 2**3
    assert all(torch.equal(before[n], p) for n, p in base.reference.named_parameters())


def test_compressing_twice_gives_the_same_bytes(base):
    assert codes(compress(base)) == codes(compress(base))


def test_a_run_goes_on_after_its_last_finished_step(base, tmp_path, monkeypatch):
    keeping = dataclasses.replace(base, checkpoints=Checkpoints(tmp_path))
    share = METHODS["share_weights"]

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(share, "apply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            compress(keeping)
    with monkeypatch.context() as patch:
        patch.setattr(METHODS["prune"], "apply", interrupted)  # it must not run again
        resumed = compress(keeping)

    assert codes(resumed) == codes(compress(base))


def test_a_failure_names_the_step_and_those_done(base):
    steps = (*base.recipe.steps[:1], base.recipe.steps[0].model_copy(update={"density": {"nothing.*": 0.5}}))
    broken = dataclasses.replace(base, recipe=base.recipe.model_copy(update={"steps": steps}))

    with pytest.raises(StepError, match=r"Step 2 \(prune\) failed; steps done: prune\..*nothing"):
        compress(broken)


def test_the_objective_has_the_recipes_terms(base):
    objective = objective_of(base.recipe, base.reference)

    assert [type(t).__name__ for t in objective.terms] == ["Task", "Distillation", "InputMatching"]
    assert objective.input_noise == 0.1


def test_a_kept_step_is_named_after_all_that_leads_to_it(base):
    other = base.recipe.model_copy(update={"seed": 9})

    assert step_key(base, 0) != step_key(base, 1)
    assert step_key(base, 0) != step_key(dataclasses.replace(base, recipe=other), 0)
