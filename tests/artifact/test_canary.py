from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from clearweight.artifact import canary_from_bytes
from clearweight.artifact.errors import CanaryError
from tests.artifact.samples import canary, same_bits

FIELDS = ("inputs", "target", "logits_reference", "logits_compressed", "maps_reference", "maps_compressed")


def test_probes_round_trip_and_are_deterministic():
    data = canary().to_bytes()
    back = canary_from_bytes(data)

    assert back.count == 3
    assert data == canary().to_bytes() == back.to_bytes()
    for name in FIELDS:
        assert same_bits(getattr(back, name), getattr(canary(), name)), name


def test_the_keys_are_those_of_spec_5():
    assert set(load(canary().to_bytes())) == {
        "input", "target", "logits_reference", "logits_compressed", "map_reference", "map_compressed"
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"target": np.zeros(3, np.int32)},
        {"target": np.zeros((3, 1), np.int64)},
        {"target": np.zeros(2, np.int64)},
        {"logits_reference": np.zeros((3, 5))},
        {"logits_reference": np.zeros((3, 4), np.float32)},
        {"maps_compressed": np.zeros((3, 1, 4, 4), np.float32)},
        {"maps_compressed": np.zeros((3, 1, 2, 2), np.float16)},
        {"inputs": np.zeros((4, 2), np.float32)},
        {"inputs": np.zeros((), np.float32)},
    ],
    ids=lambda change: str([(k, v.dtype, v.shape) for k, v in change.items()]),
)
def test_probes_that_do_not_belong_together_are_refused(change):
    with pytest.raises(CanaryError):
        replace(canary(), **change).to_bytes()


@pytest.mark.parametrize("data", [b"", b"\xff" * 8, b"\xff\xff\xff\xff\x00\x00\x00\x00", b"{}"])
def test_what_is_not_safetensors_is_refused(data):
    with pytest.raises(CanaryError):
        canary_from_bytes(data)


def test_a_file_cut_at_any_byte_is_refused():
    data = canary(1).to_bytes()
    for cut in range(len(data)):
        with pytest.raises(CanaryError):
            canary_from_bytes(data[:cut])


def test_missing_and_surplus_tensors_are_refused():
    arrays = load(canary().to_bytes())
    with pytest.raises(CanaryError, match="expected"):
        canary_from_bytes(save({**arrays, "more": np.zeros(3)}))
    del arrays["target"]
    with pytest.raises(CanaryError):
        canary_from_bytes(save(arrays))


def with_occlusion(count=3):
    random = np.random.default_rng(4)
    maps = random.normal(size=(2, count, 1, 4, 4)).astype(np.float16)
    return replace(canary(count), occlusions_reference=maps[0], occlusions_compressed=maps[1])


def test_occlusion_maps_of_both_models_travel_too():
    full = with_occlusion()
    back = canary_from_bytes(full.to_bytes())

    assert set(load(full.to_bytes())) == {
        *load(canary().to_bytes()),
        "occlusion_reference",
        "occlusion_compressed",
    }
    assert same_bits(back.occlusions_reference, full.occlusions_reference)
    assert same_bits(back.occlusions_compressed, full.occlusions_compressed)
    assert back.to_bytes() == full.to_bytes()
    assert canary_from_bytes(canary().to_bytes()).occlusions_reference is None


@pytest.mark.parametrize(
    "change",
    [
        {"occlusions_reference": None},
        {"occlusions_compressed": None},
        {"occlusions_compressed": np.zeros((3, 1, 4, 4), np.float32)},
        {"occlusions_compressed": np.zeros((3, 1, 2, 2), np.float16)},
        {"occlusions_compressed": np.zeros((2, 1, 4, 4), np.float16)},
    ],
    ids=["no reference", "no own", "float32", "another shape", "a row less"],
)
def test_occlusion_maps_that_do_not_belong_together_are_refused(change):
    with pytest.raises(CanaryError):
        replace(with_occlusion(), **change).to_bytes()


def test_the_occlusion_of_one_model_alone_is_refused_in_a_file():
    arrays = load(with_occlusion().to_bytes())
    del arrays["occlusion_reference"]
    with pytest.raises(CanaryError, match="of a quantized model"):
        canary_from_bytes(save(arrays))
