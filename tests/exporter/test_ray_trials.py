"""A search over a local Ray cluster of two cores; skipped where Ray is not installed."""

import threading

import pytest

pytest.importorskip("ray")

from clearweight.exporter.errors import SearchError
from clearweight.exporter.journal import outcomes
from clearweight.exporter.search import search
from clearweight.exporter.sections import SearchSection
from tests.exporter.test_search import RANGES, recipe


@pytest.fixture(scope="module", autouse=True)
def cluster():
    from clearweight.exporter import ray_trials

    ray_trials.ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
        _node_ip_address="127.0.0.1",
    )
    yield ray_trials.ray
    ray_trials.ray.shutdown()


@pytest.mark.slow
def test_trials_are_spread_kept_and_resumed_by_either_backend(tmp_path, cluster):
    told, lock = [], threading.RLock()  # as a terminal holds one: what listens stays in this process

    def tell(outcome, _so_far):
        with lock:
            told.append(outcome)

    found = search(recipe(trials=3, processes=2), tmp_path, on_trial=tell, backend="ray")

    assert found.outcomes == tuple(told)
    assert sorted(o.number for o in told) == [0, 1, 2]
    assert found.best.packed_bytes == min(o.packed_bytes for o in told)
    assert cluster.is_initialized(), "a cluster that the caller joined is left alone"
    assert not [path for path in tmp_path.iterdir() if path.is_dir()], "nothing of Ray's own stays"

    longer = search(recipe(trials=4), tmp_path)
    assert longer.outcomes[:3] == found.outcomes
    assert len(longer.outcomes) == 4
    (journal,) = tmp_path.glob("search-*.log")
    assert outcomes(journal) == list(longer.outcomes)

    # What a worker measured is what this process measures for the same strengths.
    from clearweight.exporter.checkpoint import Checkpoints
    from clearweight.exporter.trial import Trials

    again = Trials(recipe(), Checkpoints(tmp_path)).measure(told[0].number, told[0].strengths)
    assert again == told[0]


@pytest.mark.slow
def test_where_every_trial_fails_the_reason_is_told(tmp_path):
    broken = recipe(trials=2, processes=2)
    steps = (broken.steps[0].model_copy(update={"density": {"nothing*": 0.5}}), *broken.steps[1:])
    ranges = SearchSection(ranges={"share_weights.bits": RANGES["share_weights.bits"]}, trials=2)
    with pytest.raises(SearchError, match="matches no weight"):
        search(broken.model_copy(update={"steps": steps, "search": ranges}), tmp_path, backend="ray")
