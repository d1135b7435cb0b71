import asyncio

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from clearweight.service import Engine, EngineOptions
from clearweight.service.rest.worst import worst_routes
from tests.service import artifacts


def get(engine, path):
    async def call():
        transport = httpx.ASGITransport(Starlette(routes=list(worst_routes(engine))))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return await client.get(path)

    return asyncio.run(call())


@pytest.mark.parametrize("path", ["/v2/models/tiny/drift/worst", "/v2/models/tiny/versions/10/drift/worst"])
def test_the_inputs_of_the_largest_distance_come_worst_first(models, path):
    x = np.concatenate([artifacts.inputs(40), artifacts.corrupted(40)])
    options = EngineOptions(shadow=1.0, shadow_cpu_share=1.0, shadow_queue=4096, worst_samples=5)
    with Engine(models, options) as engine:
        engine.predict(x)
        engine.drain_shadow()
        found = get(engine, path).json()

    scores = [sample["pooled_cosine"] for sample in found["samples"]]
    assert (found["model"], found["version"], len(scores)) == ("tiny", "10", 5)
    assert scores == sorted(scores, reverse=True)
    for sample in found["samples"]:
        sent = np.array(sample["inputs"]["input"], np.float32)
        assert any(np.array_equal(sent, row) for row in x)
        assert 0 <= sample["class"] < artifacts.CLASSES


def test_nothing_is_kept_unless_switched_on(models):
    with Engine(models, EngineOptions(shadow=1.0)) as engine:
        found = get(engine, "/v2/models/tiny/drift/worst")

    assert found.status_code == 501
    assert "worst_samples" in found.json()["error"]


def test_the_public_port_has_no_such_path(http):
    assert http.get("/v2/models/tiny/drift/worst").status_code == 404
