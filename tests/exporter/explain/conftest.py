import warnings
from functools import cache

import pytest

from clearweight.exporter.graph import to_onnx
from tests.exporter.explain.networks import MODULES, build_network


@cache
def network_of(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter warns of its own deprecations
        return build_network(name, to_onnx)


@pytest.fixture(params=MODULES)
def network(request):
    """Each of the small networks in turn; exported once."""
    return network_of(request.param)


@pytest.fixture
def named():
    """One of the small networks by name."""
    return network_of
