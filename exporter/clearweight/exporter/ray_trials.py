"""Trials of a search over a Ray cluster: Ray Tune places and runs them, the journal proposes and keeps.

Every node needs the same packages, the recipe's module and data, and the work folder, under the same paths. A worker
prepares data and reference once and keeps them for its further trials; one that is lost with its node is replaced and
its trial made again.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# Read when Ray is imported: nothing is reported home, no files for dashboards are written, and workers stay in the
# folder where the user's module is.
os.environ.update(RAY_USAGE_STATS_ENABLED="0", TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1")
os.environ.update(RAY_CHDIR_TO_TRIAL_DIR="0", RAY_AIR_NEW_OUTPUT="0")

import ray
from optuna.trial import Trial
from ray import tune
from ray.tune.search import Searcher

from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.errors import ExporterError
from clearweight.exporter.journal import Journal, search_section
from clearweight.exporter.outcome import Outcome
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.trial import Trials

# How often a trial is made again after its worker was lost.
_TRIES = 2


def run_on_ray(recipe: Recipe, journal: Path, work: Path, on_end: Callable[[], None]) -> None:
    """Make the trials that a journal lacks, ``processes`` at a time and ``threads`` cores each.

    Where Ray is not running in this process yet, the cluster that ``RAY_ADDRESS`` names is joined, or one is started on
    this machine for as long as it takes.

    Parameters
    ----------
    work : folder of the checkpoints, which all nodes share
    on_end : called after every trial that was measured
    """
    kept = Journal(recipe, journal)
    if not (missing := kept.missing()):
        return
    with _cluster(), TemporaryDirectory(prefix="ray-", dir=work.resolve()) as folder:
        trainable = tune.with_resources(
            tune.with_parameters(_Worker, recipe=recipe, work=work.resolve()), {"cpu": recipe.threads}
        )
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=_Proposals(kept, on_end),
                num_samples=missing,
                max_concurrent_trials=search_section(recipe).processes,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=folder,
                failure_config=tune.FailureConfig(max_failures=_TRIES),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()


@contextmanager
def _cluster() -> Iterator[None]:
    """Join or start a cluster, and leave it; one that the caller has joined is left alone."""
    if ray.is_initialized():
        yield
        return
    # A cluster runs whatever code it is sent and asks nobody who he is: one of our own listens on the loopback alone.
    own = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ray.init(**({} if "RAY_ADDRESS" in os.environ else own), log_to_driver=False, logging_level="error")
    try:
        yield
    finally:
        ray.shutdown()


class _Proposals(Searcher):  # type: ignore[misc]  # Ray is an extra, so nothing is known of its types
    """The journal as Ray Tune asks for strengths, in the process that was started."""

    def __init__(self, journal: Journal, on_end: Callable[[], None]) -> None:
        super().__init__()
        self._journal, self._on_end = journal, on_end
        self._open: dict[str, Trial] = {}

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Be written down as an empty searcher: Tune keeps its settings to resume by, which the journal is for."""
        return Searcher, ()

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Return the number and the strengths of the next trial, by the order of the recipe's ranges."""
        trial = self._open[trial_id] = self._journal.propose()
        return {"number": trial.number, "names": list(trial.params), "values": list(trial.params.values())}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Write down what came of a trial."""
        trial = self._open.pop(trial_id)
        if error or result is None:
            self._journal.give_up(trial, "A worker of the Ray cluster ended early.")
        elif "failed" in result:
            self._journal.give_up(trial, result["failed"])
        else:
            self._journal.keep(trial, Outcome(**result["outcome"][0]))
            self._on_end()

    def save(self, checkpoint_path: str) -> None:
        """Save nothing, for the same reason."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing."""


class _Worker(tune.Trainable):  # type: ignore[misc]  # as above
    """One process of the cluster: data and reference once, then one training per trial."""

    def setup(self, config: dict[str, Any], recipe: Recipe, work: Path) -> None:
        """Prepare for the first trial."""
        self._trials = Trials(recipe, Checkpoints(work))
        self._asked = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial."""
        self._asked = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Make the whole trial."""
        asked = self._asked
        try:
            outcome = self._trials.measure(
                asked["number"], dict(zip(asked["names"], asked["values"], strict=True))
            )
        except ExporterError as error:
            return {"failed": str(error), "done": True}
        # In a list, into which Tune does not look: a mapping it would take apart.
        return {"outcome": [vars(outcome)], "done": True}
