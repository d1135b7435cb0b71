"""Probes are shown as they came, and only where administrators are."""

import json

import httpx
import numpy as np
import pytest

from clearweight.artifact import Artifact
from clearweight.service.web import canaries
from clearweight.service.web.canaries import probes
from tests.service.conftest import start_server, stop_server

USER, ADMIN = "user-token-0123456789", "admin-token-0123456789"
PATH = "/web/canaries/tiny"


@pytest.fixture(scope="module")
def canary(models):
    return Artifact.open(models / "tiny" / "10").canaries()


def test_every_probe_is_there_raw_and_flat(canary):
    found = json.loads(json.dumps(probes(canary, "file"), allow_nan=False))

    assert (found["source"], found["datatype"]) == ("file", "FP32")
    np.testing.assert_array_equal(
        np.array(found["inputs"], canary.inputs.dtype), canary.inputs.reshape(canary.count, -1)
    )


def test_large_inputs_show_fewer_probes_but_one(canary, monkeypatch):
    monkeypatch.setattr(canaries, "_MOST_ELEMENTS", 3 * canary.inputs[0].size + 1)
    assert len(probes(canary, "file")["inputs"]) == 3

    monkeypatch.setattr(canaries, "_MOST_ELEMENTS", 1)
    assert len(probes(canary, "file")["inputs"]) == 1


def test_only_administrators_on_their_own_port_read_them(models):
    server = start_server(models, admin_port=0, tokens=USER, admin_tokens=ADMIN)
    admin = f"http://127.0.0.1:{server.admin_port}"
    codes = {
        (port, token): httpx.get(port + PATH, headers={"Authorization": f"Bearer {token}"}).status_code
        for port in (server.url, admin)
        for token in (USER, ADMIN)
    }
    page = httpx.get(admin + "/").status_code
    unknown = httpx.get(f"{admin}/web/canaries/none", headers={"Authorization": f"Bearer {ADMIN}"})
    stop_server(server)

    assert codes == {
        (server.url, USER): 404,
        (server.url, ADMIN): 404,
        (admin, USER): 403,
        (admin, ADMIN): 200,
    }
    assert page == 200
    assert unknown.status_code == 404
