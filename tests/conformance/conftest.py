"""The server under test: ours on free ports, or any other by its address.

``CLEARWEIGHT_CONFORMANCE_URL``, ``_GRPC`` (host:port, optional), ``_MODEL`` and ``_ONNX`` (the file it serves).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import models
from tests.conformance.target import Oracle, Target, served

PREFIX = "CLEARWEIGHT_CONFORMANCE_"


@pytest.fixture(scope="session")
def target(tmp_path_factory) -> Iterator[Target]:
    url = os.environ.get(f"{PREFIX}URL")
    if url:
        file = os.environ.get(f"{PREFIX}ONNX")
        found = Target(
            url=url.rstrip("/"),
            grpc_address=os.environ.get(f"{PREFIX}GRPC"),
            model=os.environ.get(f"{PREFIX}MODEL", models.MODEL),
            oracle=Oracle(Path(file).read_bytes() if file else models.onnx_file()),
        )
        yield found
        found.close()
        return
    out = models.write_models(tmp_path_factory.mktemp("conformance"))
    with served(out, Oracle(models.onnx_file()), models.MODEL) as server:
        yield server.target
