"""The parameter `variant`: the map of the uncompressed reference, where it is loaded."""

import numpy as np
import pytest

from clearweight.service import Engine, EngineOptions
from clearweight.service.core.errors import InvalidRequestError, UnsupportedError
from clearweight.service.core.types import InferRequest, Tensor
from tests.service import artifacts


def explain(engine, variant, x):
    request = InferRequest("tiny", "10", (Tensor("input", "FP32", x),), parameters={"variant": variant})
    answer = engine.infer_explain(request)
    return {tensor.name: tensor.values for tensor in answer.outputs}, answer.parameters


@pytest.fixture(scope="module")
def watched(models):
    with Engine(models, EngineOptions(shadow=1.0, shadow_cpu_share=1.0)) as engine:
        yield engine


def test_the_reference_is_asked_for_its_own_map(watched):
    x, reference = artifacts.inputs(3), artifacts.network()

    found, _ = explain(watched, "reference", x)

    np.testing.assert_allclose(found["explain"], reference.explain(x, found["target"]), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["logits"], reference.logits(x), rtol=1e-4, atol=1e-5)


def test_the_reply_names_the_model_that_answered(watched):
    x = artifacts.inputs(1)

    _, own = explain(watched, "compressed", x)
    _, theirs = explain(watched, "reference", x)

    assert own["model_sha256"] != theirs["model_sha256"]


def test_a_request_to_the_reference_is_no_sample_of_drift(watched):
    watched.drain_shadow()
    before = watched.health("tiny", "10").drift.compared

    explain(watched, "reference", artifacts.inputs(4))
    watched.drain_shadow()

    assert watched.health("tiny", "10").drift.compared == before


def test_without_a_loaded_reference_it_is_unsupported(models):
    with Engine(models) as engine, pytest.raises(UnsupportedError, match="not loaded"):
        explain(engine, "reference", artifacts.inputs(1))


@pytest.mark.parametrize("variant", ["other", 1, True])
def test_another_variant_is_the_callers_mistake(watched, variant):
    with pytest.raises(InvalidRequestError, match="variant"):
        explain(watched, variant, artifacts.inputs(1))
