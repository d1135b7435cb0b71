"""`resident`: what parameters take in memory once ONNX Runtime holds them, form by form, and what each form costs.

A session of a small network is mostly ONNX Runtime's own structures. So each network has a narrow twin, the same
layers with hardly a weight in them, and the memory of the parameters is what a session holds above a session of its
twin. ``resident_over_reference`` compares that with the float32 file, ``served_over_reference`` does so for predict and
explain together in the service's memory-saving mode; ``session_over_reference`` compares whole sessions.

Networks: ResNet-20 with the published weights on JPEG images; a small VGG trained here on MNIST; VGG-16's shape with
random weights, of which no accuracy can be told.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from benchmarks.networks import ResNet20
from benchmarks.post_training import cifar10_images, published_resnet_20
from benchmarks.resident_memory import resident_per_session
from benchmarks.row import Row, data_folder
from benchmarks.tasks import WORK
from benchmarks.turns import take_turns
from benchmarks.vgg import VGG16, Vgg
from clearweight.artifact import CodedTensor, cosine_distance
from clearweight.exporter.calibration import explained
from clearweight.exporter.checkpoint import Checkpoints, checkpoint_key, model_state, restore
from clearweight.exporter.emission import pack
from clearweight.exporter.explain import build
from clearweight.exporter.graph import (
    fold_batchnorm,
    int8_onnx,
    session,
    split_parameters,
    to_onnx,
    weight_only,
    weights_of,
)
from clearweight.exporter.mixed_precision import chosen_bits, curvature, options
from clearweight.exporter.plain_forms import compared, float16, int4, logits
from clearweight.exporter.sections import MixedPrecisionSection
from clearweight.exporter.training import FineTuning, Runtime, Samples, fit

BENCH = "resident"
REFERENCE = "float32"
REPEATS = 5
MIXED = MixedPrecisionSection(bits=(4, 8), bits_per_weight=7.0)
EXPLAINED = 200
# Sessions are opened until their parameters fill about this much, so that pages and rounding do not count.
_FILL_BYTES = 16 << 20
Form = Callable[["Subject", onnx.ModelProto], onnx.ModelProto]


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and its narrow twin.

    Attributes
    ----------
    module, model : the network, batch normalisation merged, and its graph
    narrow : the graph of the same layers with hardly a weight
    calibration : (n, ...) inputs
    images, labels : held-out; labels None where the weights are random
    """

    module: nn.Module
    model: onnx.ModelProto
    narrow: onnx.ModelProto
    calibration: NDArray[np.float32]
    images: NDArray[np.float32]
    labels: NDArray[np.int64] | None


def resnet_20(data: Path, *, quick: bool) -> Subject:
    """Return the published ResNet-20 on JPEG images: right for differences to itself, not as CIFAR-10 scores."""
    for folder in ("cifar10", "cifar10-resnets"):
        data_folder(data, folder)
    seen, _ = cifar10_images(data, "train50k", 500)
    images, labels = cifar10_images(data, "test", 500 if quick else 10_000)
    return _subject(published_resnet_20(data), ResNet20(2).eval(), seen, images, labels)


def vgg_mnist(data: Path, *, quick: bool) -> Subject:
    """Return a VGG of six convolutions on digits padded to 32 x 32, trained here and kept under build/benchmarks."""
    held = dict(np.load(data_folder(data, "mnist") / "mnist.npz"))
    x, test = (
        np.pad(held[name][:, None].astype(np.float32) / 255, ((0, 0), (0, 0), (2, 2), (2, 2)))
        for name in ("x_train", "x_test")
    )
    stages = ((16,), (32,), (64, 64), (128, 128))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Vgg(stages, 32, channels=1, hidden=512, classes=10)
        tuning = FineTuning(epochs=1 if quick else 2, learning_rate=1e-3, schedule="one_cycle")
        kept = Checkpoints(WORK / "checkpoints")
        key = checkpoint_key("vgg_mnist", repr(tuning))
        if (known := kept.load(key)) is not None:
            restore(module, known)
        else:
            count = 6400 if quick else 59_500
            samples = Samples(
                torch.from_numpy(x[:count]), torch.from_numpy(held["y_train"][:count].astype(np.int64))
            )
            runtime = Runtime(Fabric(accelerator="cpu", devices=1), seed=0)
            fit(
                module,
                samples,
                lambda run, images, labels, _draws: functional.cross_entropy(run(images), labels),
                tuning,
                runtime,
                what="vgg_mnist",
            )
            if not quick:
                kept.save(key, model_state(module))
        narrow = Vgg([[2] * len(stage) for stage in stages], 32, channels=1, hidden=2, classes=10)
    return _subject(module.eval(), narrow.eval(), x[59_500:], test, held["y_test"].astype(np.int64))


def vgg_16(_data: Path, *, quick: bool) -> Subject:
    """Return VGG-16's shape with seeded random weights; a quick run takes an eighth of its width."""
    part = 8 if quick else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module, narrow = (
            Vgg(
                [[max(2, wide // p) for wide in stage] for stage in VGG16],
                224,
                channels=3,
                hidden=4096 // p,
                classes=1000 // p,
            )
            for p in (part, 250)
        )
        images = torch.randn(2, 3, 224, 224).numpy()
    return _subject(module.eval(), narrow.eval(), images, images, None)


def _subject(
    module: nn.Module,
    narrow: nn.Module,
    calibration: NDArray[np.float32],
    images: NDArray[np.float32],
    labels: NDArray[np.int64] | None,
) -> Subject:
    example = torch.zeros(2, *images.shape[1:])
    folded = fold_batchnorm(module, example)
    return Subject(folded, to_onnx(folded, example), to_onnx(narrow, example), calibration, images, labels)


@cache
def mixed_bits(subject: Subject) -> Mapping[str, int]:
    """Return the bits that `deploy: mixed` gives each weight."""
    bent = curvature(subject.module, subject.model, subject.calibration, MIXED, 0)
    found = options(subject.model, bent, MIXED.bits)
    choice = chosen_bits(found, MIXED, sum(math.prod(shape) for shape in weights_of(subject.model).values()))
    return {name: option.bits for name, option in choice.items()}


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        REFERENCE: lambda _subject, model: model,
        "float16": lambda subject, model: onnx.load_from_string(float16(model, subject.calibration)),
        "int8": lambda subject, model: int8_onnx(model, subject.calibration),
        "weights8": lambda _subject, model: weight_only(model, dict.fromkeys(weights_of(model), 8)).model,
        "int4": lambda subject, model: onnx.load_from_string(int4(model, subject.calibration)),
        "mixed": lambda subject, model: weight_only(model, mixed_bits(subject)).model,
    }
)
# INT4 tensors have no place in weights.cwt: the service holds such layers in int8.
SERVED = (REFERENCE, "int8", "weights8", "mixed")
SUBJECTS: Mapping[str, Callable[..., Subject]] = MappingProxyType(
    {"resnet_20": resnet_20, "vgg_mnist": vgg_mnist, "vgg_16_shape": vgg_16}
)


def run(data: Path | None, *, quick: bool) -> Iterator[Row]:
    """Measure every form of every network."""
    for name, make in SUBJECTS.items():
        subject = make(data, quick=quick)
        yield from measured(name, subject, repeats=1 if quick else REPEATS)


def measured(name: str, subject: Subject, *, repeats: int) -> Iterator[Row]:
    """Yield the rows of one network; of random weights neither accuracy nor what takes many runs."""
    known = subject.labels is not None
    size = sum(values.nbytes for values in split_parameters(subject.model)[1].values())
    count = max(1, min(60, _FILL_BYTES // size))
    aim: dict[str, float] = {}
    reference = subject.model.SerializeToString()
    for form, made in FORMS.items():
        if form == "mixed" and not known:
            continue
        own = made(subject, subject.model)
        own_narrow = made(subject, subject.narrow)
        with tempfile.TemporaryDirectory() as folder:
            found = memory(Path(folder), own, own_narrow, count, repeats, served=known and form in SERVED)
        aim = aim or found
        case = f"{name}/{form}"
        yield Row(BENCH, case, "file_bytes", len(own.SerializeToString()), "bytes")
        for metric, value in found.items():
            yield Row(BENCH, case, f"{metric}_mb", value / 1e6, "MB")
            yield Row(BENCH, case, f"{metric}_over_reference", value / aim[metric], "1")
        yield Row(BENCH, case, "predict_over_reference", slowdown(own, subject.model, subject.images), "1")
        if subject.labels is not None:
            yield from answers(case, subject, subject.labels, reference, own)


def memory(
    folder: Path, own: onnx.ModelProto, narrow: onnx.ModelProto, count: int, repeats: int, *, served: bool
) -> dict[str, float]:
    """Return the median bytes of a session, of its parameters, and of the parameters of both graphs as served."""
    onnx.save(own, folder / "own.onnx")
    onnx.save(narrow, folder / "narrow.onnx")

    def held(name: str) -> float:
        return resident_per_session(folder / name, count, repeats)

    whole = held("own.onnx")
    found = {"resident": whole - held("narrow.onnx"), "session": whole}
    if served:
        for name, model in (("own", own), ("narrow", narrow)):
            write_served(folder / name, model)
        found["served"] = held("own") - held("narrow")
    return found


def write_served(folder: Path, model: onnx.ModelProto) -> None:
    """Write predict and explain graph over packed weights, as an artifact has them."""
    folder.mkdir()
    structure, parameters = split_parameters(model)
    explain, _ = split_parameters(build(model, "input_x_gradient").model)
    onnx.save(structure, folder / "predict.onnx")
    onnx.save(explain, folder / "explain.onnx")
    packed, _ = pack([CodedTensor(name, values) for name, values in parameters.items()])
    (folder / "weights.cwt").write_bytes(packed)


def slowdown(own: onnx.ModelProto, reference: onnx.ModelProto, images: NDArray[np.float32]) -> float:
    """Return the median of own over reference of the times of a prediction, batch 1, one thread, in turn."""
    running = {name: session(model) for name, model in (("own", own), ("reference", reference))}
    (source,) = running["own"].get_inputs()

    def contender(form: str) -> Callable[[NDArray[np.float32]], object]:
        return lambda rows: running[form].run(None, {source.name: rows})

    times = take_turns({form: contender(form) for form in running}, images[:16, None], seconds=6.0)
    return float(np.median(times["own"] / times["reference"]))


def answers(
    case: str, subject: Subject, labels: NDArray[np.int64], reference: bytes, own: onnx.ModelProto
) -> Iterator[Row]:
    """Yield accuracy and the likeness of the maps of input x gradient."""
    aim = logits(reference, subject.images)
    found = compared(b"", logits(own.SerializeToString(), subject.images), aim, labels)
    before = compared(b"", aim, aim, labels)
    shown = subject.images[:EXPLAINED]
    target = aim[:EXPLAINED].argmax(1)
    maps = [
        explained(session(build(model, "input_x_gradient").model), shown, target).maps
        for model in (subject.model, own)
    ]
    cosine = 1.0 - np.nanmean(cosine_distance(maps[1], maps[0]))
    yield Row(BENCH, case, "error_percent", 100 * (1 - found.accuracy), "%")
    yield Row(BENCH, case, "error_delta_pt", 100 * (before.accuracy - found.accuracy), "pt")
    yield Row(BENCH, case, "agreement_percent", 100 * found.agreement, "%")
    yield Row(BENCH, case, "cosine_input_x_gradient", float(cosine), "1")
