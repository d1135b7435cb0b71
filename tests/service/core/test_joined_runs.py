"""Requests that share a run, with real models: every reply is what it would have been alone."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from clearweight.service import Engine
from clearweight.service.core.dataplane import Call, Dataplane, PlaneOptions
from clearweight.service.core.lane import LaneOptions
from clearweight.service.core.parameters import TARGET
from clearweight.service.core.types import InferRequest, Tensor
from tests.service import artifacts

ROWS = (1, 3, 1, 2)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    out = tmp_path_factory.mktemp("joined")
    artifacts.write(out, probes=tuple(artifacts.PROBES))
    with Engine(out) as opened:
        yield opened


def request(values, parameters=None, **extra):
    tensors = [Tensor("input", "FP32", values)]
    kinds = {TARGET: "INT64", "baseline": "FP32"}
    tensors += [Tensor(name, kinds[name], np.asarray(given)) for name, given in extra.items()]
    return InferRequest("tiny", None, tuple(tensors), parameters=parameters or {}, id=str(len(values)))


def requests(**parameters):
    return [request(artifacts.inputs(rows, seed=rows + index), parameters) for index, rows in enumerate(ROWS)]


def compare(engine, verb, asked):
    """Run requests joined and alone and demand the same replies."""
    jobs = [engine.job(verb, one) for one in asked]
    assert len({job.key for job in jobs}) == 1
    joined = engine.run(jobs)
    for together, one in zip(joined, asked, strict=True):
        alone = engine.run([engine.job(verb, one)])[0]
        assert (together.id, together.parameters) == (alone.id, alone.parameters)
        assert [t.name for t in together.outputs] == [t.name for t in alone.outputs]
        for ours, theirs in zip(together.outputs, alone.outputs, strict=True):
            assert (ours.datatype, ours.values.dtype) == (theirs.datatype, theirs.values.dtype)
            assert ours.values.shape == theirs.values.shape
            scale = max(1.0, float(np.abs(theirs.values).max()))
            assert np.abs(ours.values - theirs.values).max() <= 4 * np.finfo(np.float32).eps * scale
    return joined


def test_predictions_come_back_to_whom_they_belong(engine):
    joined = compare(engine, "predict", requests())

    oracle = artifacts.pruned(artifacts.network(), 0.2)
    for reply, one in zip(joined, requests(), strict=True):
        assert np.allclose(reply.outputs[0].values, oracle.logits(one.inputs[0].values), atol=1e-6)


@pytest.mark.parametrize("method", [*artifacts.METHODS, *artifacts.PROBES])
def test_explanations_come_back_to_whom_they_belong(engine, method):
    compare(engine, "explain", requests(method=method))


def test_every_request_keeps_its_own_targets(engine):
    """One for all rows, one per row, the arg-max: all in one run."""
    asked = requests(method="gradient")
    asked[0] = replace(asked[0], parameters={"method": "gradient", TARGET: 3})
    asked[1] = request(asked[1].inputs[0].values, {"method": "gradient"}, target=np.array([4, -1, 0]))

    joined = compare(engine, "explain", asked)

    oracle = artifacts.pruned(artifacts.network(), 0.2)
    for reply, one in zip(joined, asked, strict=True):
        found = {tensor.name: tensor.values for tensor in reply.outputs}
        x = one.inputs[0].values
        assert np.allclose(found["explain"], oracle.explain(x, found[TARGET], "gradient"), atol=1e-6)
    assert joined[0].outputs[-1].values.tolist() == [3]
    assert joined[1].outputs[2].values.tolist()[0::2] == [4, 0]


def test_every_request_keeps_its_own_baseline(engine):
    """Zero, black, one row for all, one per row: all in one run."""
    method = {"method": "probe_path"}
    asked = requests(**method)
    asked[0] = replace(asked[0], parameters=method | {"baseline": "black"})
    asked[1] = request(asked[1].inputs[0].values, method, baseline=artifacts.inputs(3, seed=91))
    asked[3] = request(asked[3].inputs[0].values, method, baseline=artifacts.inputs(1, seed=92))

    compare(engine, "explain", asked)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"method": "gradient"}, {"method": "input_x_gradient"}),
        ({"method": "probe_noise", "seed": 1}, {"method": "probe_noise", "seed": 2}),
        ({"method": "probe_masks", "steps": 3}, {"method": "probe_masks", "steps": 4}),
        ({"method": "probe_path", "steps": 3}, {"method": "probe_path", "steps": 4}),
    ],
)
def test_what_rows_cannot_share_keeps_requests_apart(engine, one, other):
    jobs = [engine.job("explain", request(artifacts.inputs(1), asked)) for asked in (one, other)]

    assert jobs[0].key != jobs[1].key


def test_models_and_versions_are_kept_apart(models):
    with Engine(models) as engine:
        asked = request(artifacts.inputs(1))
        old, new = (engine.job("predict", replace(asked, version=version)) for version in ("9", "10"))
        assert old.key != new.key
        assert engine.job("predict", asked).key == new.key


def test_a_joined_run_stays_within_the_limits_of_one_request(engine):
    steep = engine.job("explain", request(artifacts.inputs(1), {"method": "probe_noise", "steps": 1000}))
    flat = engine.job("explain", request(artifacts.inputs(1), {"method": "gradient"}))

    assert steep.most_rows == engine.options.limits.explain_rows // 1000
    assert flat.most_rows == engine.options.limits.explain_rows


async def _answer(plane, verb, asked):
    return await plane.answer(Call(plane, verb, "rest"), asked)


def test_explain_never_keeps_predict_waiting(engine, monkeypatch):
    """With its thread held and its queue full of explanations, every prediction is answered."""
    gate, entered = threading.Event(), threading.Event()
    model = engine.repository.slot("tiny").model
    explain = model.explain

    def held(*arguments, **settings):
        entered.set()
        gate.wait(30)
        return explain(*arguments, **settings)

    monkeypatch.setattr(model, "explain", held)
    lane = LaneOptions(workers=1, queue=4, max_batch=1, inline_seconds=0.0)
    plane = Dataplane(engine, PlaneOptions(predict=lane, explain=lane))

    async def drive():
        asked = request(artifacts.inputs(1))
        explaining = [asyncio.create_task(_answer(plane, "explain", asked)) for _ in range(5)]
        await asyncio.to_thread(entered.wait, 30)
        for _ in range(50):
            await asyncio.wait_for(_answer(plane, "predict", asked), 10)
        assert not any(task.done() for task in explaining)
        assert plane.lanes["explain"].depth == 4
        gate.set()
        await asyncio.gather(*explaining)

    asyncio.run(drive())
    plane.lanes["predict"].close()
    plane.lanes["explain"].close()
