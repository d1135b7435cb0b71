"""Small tensors, files and manifests for the format's tests; everything is seeded."""

import io
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from clearweight.artifact import (
    Canaries,
    Canary,
    CodedTensor,
    Coder,
    Explainer,
    Fidelity,
    IntegrityLimit,
    Manifest,
    Preprocessing,
    Quality,
    Summary,
    TensorSpec,
    Verification,
    WeightsReader,
    WeightsReport,
    write_artifact,
    write_weights,
)
from clearweight.artifact.bit_pattern import DTYPES
from clearweight.artifact.errors import ArtifactError

SPEC = "artifact/clearweight/artifact/SPEC.md"


def coded(name: str, shape: tuple[int, ...], density: float, entries: int = 16, seed: int = 0) -> CodedTensor:
    """A pruned tensor with a codebook whose entry 0 is zero."""
    random = np.random.default_rng(seed)
    book = (
        np.concatenate([[0.0], np.sort(random.normal(size=entries - 1))])
        .astype(np.float16)
        .astype(np.float32)
    )
    likely = np.exp(-2 * np.abs(book[1:]))
    indices = random.choice(np.arange(1, entries), size=shape, p=likely / likely.sum())
    indices = np.where(random.random(shape) < density, indices, 0).astype(np.uint8)
    return CodedTensor(name, book[indices], book, indices)


def network() -> list[CodedTensor]:
    """Tensors that between them take every kind of layout."""
    random = np.random.default_rng(7)
    return [
        coded("conv.weight", (6, 3, 3, 3), 0.3),
        CodedTensor("conv.bias", random.normal(size=6).astype(np.float16).astype(np.float32)),
        coded("fc.weight", (40, 60), 0.06, 32),
        coded("dense.weight", (20, 20), 0.8, 16),
        CodedTensor("raw.weight", random.normal(size=(4, 5)).astype(np.float32)),
        CodedTensor("zero.weight", np.zeros((9, 4), dtype=np.float32)),
        CodedTensor("same.weight", np.full(33, 0.1, dtype=np.float32)),
        CodedTensor("scalar", np.float32(-2.5).reshape(())),
        CodedTensor("empty", np.zeros((0, 3), dtype=np.float32)),
        CodedTensor("counts", random.integers(-3, 3, size=50).astype(np.int64)),
        columns("walked.weight", (40, 50)),
        CodedTensor(
            "half.weight",
            np.where(random.random((40, 40)) < 0.5, random.normal(size=(40, 40)), 0).astype("f4"),
        ),
    ]


def columns(name: str, shape: tuple[int, int]) -> CodedTensor:
    """A tensor most of whose columns are zero, so that walking down the columns is cheaper."""
    tensor = coded(name, shape, 0.9)
    assert tensor.codebook is not None
    assert tensor.indices is not None
    kept = np.random.default_rng(1).random(shape[1]) < 0.2
    indices = np.where(kept, tensor.indices, 0).astype(np.uint8)
    return CodedTensor(name, tensor.codebook[indices], tensor.codebook, indices)


def packed(tensors: list[CodedTensor], coder: Coder = "huffman", *, tiles: bool = False) -> bytes:
    return packed_report(tensors, coder, tiles=tiles)[0]


def packed_report(
    tensors: list[CodedTensor], coder: Coder = "huffman", *, tiles: bool = False
) -> tuple[bytes, WeightsReport]:
    file = io.BytesIO()
    report = write_weights(file, tensors, coder=coder, tiles=tiles)
    return file.getvalue(), report


def read_all(data: bytes) -> dict[str, np.ndarray]:
    return dict(WeightsReader(data).tensors())


def every_changed_byte_is_found(data: bytes) -> None:
    """Change each byte of a file in three ways; the reader names what is wrong with each."""
    for place in range(len(data)):
        for flip in (1, 0x80, 0xFF):
            changed = bytearray(data)
            changed[place] ^= flip
            with pytest.raises(ArtifactError) as caught:
                read_all(bytes(changed))
            assert named(caught.value), type(caught.value)


def resealed(body: bytes) -> bytes:
    """Give hand-made weights bytes (all but the checksum) the right checksum."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def same_bits(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def canary(count: int = 3) -> Canary:
    random = np.random.default_rng(3)
    return Canary(
        random.integers(0, 255, size=(count, 1, 4, 4)).astype(np.uint8),
        np.arange(count, dtype=np.int64),
        random.normal(size=(count, 5)).astype(np.float32),
        random.normal(size=(count, 5)).astype(np.float32),
        random.normal(size=(count, 1, 4, 4)).astype(np.float16),
        random.normal(size=(count, 1, 4, 4)).astype(np.float16),
    )


def manifest(report: WeightsReport, **changes: Any) -> Manifest:
    """A manifest without files, as a caller of ``write_artifact`` makes it."""
    verification = Verification(2, 2, 1.0, 0.0, None, None, 1e-6, "passed")
    explainer = Explainer(
        "explain.gradient.onnx", "gradient", "arg-max", "signed", "logit per input", "none", ("noise",), 16,
        {"sigma": 0.15}, False, "input", None, (-1, 1, 4, 4), False, verification,
    )  # fmt: skip
    summary = Summary(0.95, 0.9, 0.96, 0.99)
    quality = Quality(0.9, None, None)
    made = Manifest(
        name="tiny",
        version="1",
        variant="compressed",
        inputs=(TensorSpec("input", "FP32", (-1, 1, 4, 4)),),
        outputs=(TensorSpec("logits", "FP32", (-1, 5)),),
        labels=("zéro", "one", "two", "three", "four"),
        preprocessing=Preprocessing("UINT8", 1 / 255),
        ledger=report.ledger(),
        reference_quality=quality,
        compressed_quality=quality,
        explainers={"gradient": explainer},
        default_explainer="gradient",
        fidelity=Fidelity("gradient", 8, 0, {"cosine": summary}, 1.0, 0.0, 0.9, 0.1, None, None, True),
        integrity=IntegrityLimit(1e-4, 0.999, 1e-3),
        drift=None,
        canaries=Canaries("synthetic", 3),
        splits={"calibration": "0" * 64},
        environment={"numpy": "2"},
    )
    return replace(made, **changes)


def contents(weights: bytes) -> dict[str, bytes | Path]:
    return {
        "predict.onnx": b"graph",
        "explain.gradient.onnx": b"another graph",
        "weights.cwt": weights,
        "canaries.safetensors": canary().to_bytes(),
        "report.html": b"<html></html>",
    }


def written(out: Path, **changes: Any) -> Path:
    """Write the sample artifact below ``out``."""
    weights, report = packed_report(network())
    return write_artifact(out, manifest(report, **changes), contents(weights))


names = st.from_regex(r"[A-Za-z0-9_:.\-]{1,12}(/[A-Za-z0-9_]{1,5}){0,2}", fullmatch=True).filter(
    lambda name: not any(part in {".", ".."} for part in name.split("/"))
)
shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=9)


@st.composite
def tensors(draw: st.DrawFn) -> CodedTensor:
    """Any tensor the format takes: with or without code, mostly zero or not, with odd bit patterns."""
    name, shape = draw(names), draw(shapes)
    seed, density = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.0, 0.02, 0.1, 0.4, 0.9, 1.0]))
    if draw(st.booleans()):
        return coded(name, shape, density, draw(st.integers(2, 256)), seed)
    dtype = draw(st.sampled_from(DTYPES))
    random = np.random.default_rng(seed)
    values = random.integers(0, 256, size=(*shape, dtype.itemsize), dtype=np.uint8).view(dtype).reshape(shape)
    if draw(st.booleans()) and values.size:
        values = random.choice(values.reshape(-1)[:20], size=shape)
    return CodedTensor(
        name, np.where(random.random(shape) < density, values, np.zeros((), dtype)).astype(dtype)
    )


def named(error: BaseException) -> bool:
    """Whether an error is one of the tree's leaves, not a bare root."""
    return isinstance(error, ArtifactError) and not type(error).__subclasses__()
