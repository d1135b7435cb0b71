"""Run a recipe's steps on a copy of the reference, each under the one objective, each held to its promise."""

import copy
import hashlib
from dataclasses import replace

from torch import nn

from clearweight.exporter.checkpoint import checkpoint_key, model_state, restore, section
from clearweight.exporter.compress import METHODS, Step, Workbench
from clearweight.exporter.errors import ExporterError, StepError
from clearweight.exporter.objective import TERMS, Objective
from clearweight.exporter.preparation import Prepared
from clearweight.exporter.recipe import Recipe

# Raised whenever `checkpoint.model_state` says things another way, so that no older state is read for a new one.
STATE_FORMAT = 2


def objective_of(recipe: Recipe, reference: nn.Module) -> Objective:
    """Return what every fine-tuning step preserves."""
    terms = [TERMS[config.term](config) for config in recipe.objective.terms]  # type: ignore[attr-defined]  # every term's config names itself
    return Objective(reference, terms, input_noise=recipe.objective.input_noise)


def trainable_copy(reference: nn.Module) -> nn.Module:
    """Return a copy of the reference whose parameters train."""
    model = copy.deepcopy(reference)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def step_key(prepared: Prepared, number: int) -> str:
    """Return the checkpoint name of the model after step ``number``: all that leads to it."""
    recipe = prepared.recipe
    parts = (recipe.objective, recipe.steps[: number + 1])
    weights = hashlib.sha256()
    for name, value in prepared.reference.state_dict().items():
        weights.update(name.encode() + value.cpu().numpy().tobytes())
    fitted = (prepared.digests["fit"], section(recipe.data.preprocessing), recipe.seed, recipe.threads)
    return checkpoint_key("step", STATE_FORMAT, section(parts), weights.hexdigest(), *fitted)


def compress(prepared: Prepared) -> nn.Module:
    """Run the recipe's steps on a copy of the reference and return it, constraints in place.

    Raises
    ------
    StepError
        A step failed or did not keep its promise; the message names the steps already done.
    """
    recipe = prepared.recipe
    model = trainable_copy(prepared.reference)
    steps: list[Step] = [METHODS[config.method](config) for config in recipe.steps]  # type: ignore[attr-defined]  # every method's config names itself
    for number, step in enumerate(steps):
        runtime = replace(prepared.runtime, seed=recipe.seed + 1000 * (number + 1))
        bench = Workbench(
            prepared.samples(prepared.splits.fit), objective_of(recipe, prepared.reference), runtime
        )
        key = step_key(prepared, number)
        try:
            known = prepared.checkpoints.load(key)
            if known is not None:
                model = trainable_copy(prepared.reference)
                restore(model, known)
            else:
                step.apply(model, bench)
                prepared.checkpoints.save(key, model_state(model))
            step.ensure(model)
        except ExporterError as error:
            done = ", ".join(s.name for s in steps[:number]) or "none"
            raise StepError(f"Step {number + 1} ({step.name}) failed; steps done: {done}. {error}") from error
    return model
