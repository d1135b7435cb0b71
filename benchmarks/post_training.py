"""`post_training`: compression without training, ours beside NNCodec's (ISO/IEC 15938-17), on the same networks.

Both get the same float32 parameters, batch normalisation merged. Ours sees unlabelled training inputs, NNCodec none; it
runs in a virtual environment of its own, because it wants an older numpy::

    python3.11 -m venv build/peers/nncodec && build/peers/nncodec/bin/pip install nncodec==2.1.3

Its dependent quantization is on. Bytes of both are whole files: every parameter, side data and heads. A point
``at_QP`` holds ours of no larger error against NNCodec at that qp: the smallest, and the most alike within four fifths
of the bytes.
"""

import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.cifar10 import images as cifar10_jpeg
from benchmarks.networks import NETWORKS
from benchmarks.row import MissingDataError, Row
from benchmarks.tasks import ROOT, WORK, Task, recipe_of
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.emission import pack
from clearweight.exporter.evaluate import Maps, compare_maps, compare_predictions, maps_of, reference_maps
from clearweight.exporter.evaluate.onnx_module import OnnxModule
from clearweight.exporter.graph import session, split_parameters, to_onnx
from clearweight.exporter.graph.parameters import embed_parameters
from clearweight.exporter.post_training import compress, gather
from clearweight.exporter.preparation import prepare
from clearweight.exporter.training import silent

BENCH = "post_training"
PEER = ROOT / "build" / "peers" / "nncodec" / "bin" / "python"
CALIBRATION = 2000
# On how many test inputs maps are compared; a residual network's occlusion maps take seconds each.
EXPLAINED: Mapping[str, int] = MappingProxyType({"lenet_300_100": 1000, "lenet_5": 1000, "resnet_20": 200})
# Of the rival's bytes, within which maps are compared.
SHARE = 0.8
# NNCodec's quantization points for weights, and the one for everything else, network by network.
QPS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {
        "lenet_300_100": (-28, -24, -20, -18, -16, -14, -12),
        "lenet_5": (-28, -24, -20, -18, -16, -14, -12),
        "resnet_20": (-36, -32, -28, -26, -24, -22, -20),
    }
)
NONWEIGHT_QP: Mapping[str, int] = MappingProxyType({"lenet_300_100": -40, "lenet_5": -40, "resnet_20": -48})
# Ours: nats of divergence that a bit may cost.
MULTIPLIERS: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "lenet_300_100": (5e-10, 1e-9, 2e-9, 3e-9, 5e-9, 8e-9, 1e-8, 1.5e-8, 2e-8, 3e-8, 5e-8),
        "lenet_5": (2e-9, 5e-9, 1e-8, 2e-8, 3e-8, 5e-8, 1e-7, 2e-7),
        "resnet_20": (1e-8, 3e-8, 1e-7, 2e-7, 3e-7, 5e-7, 1e-6, 2e-6),
    }
)


@dataclass(frozen=True, eq=False)
class Subject:
    """One network with what it is judged on."""

    model: onnx.ModelProto
    calibration: NDArray[np.float32]
    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def mnist(network: str, data: Path, *, quick: bool) -> Subject:
    """Return a LeNet, from the checkpoints of `compression` or trained here."""
    kept = Checkpoints(WORK / "checkpoints")
    prepared = prepare(recipe_of("deep_compression", Task(network, 0, data, quick)), silent, kept)
    images = prepared.inputs(prepared.test).numpy()
    seen = prepared.inputs(prepared.splits.fit).numpy()[:CALIBRATION]
    return Subject(to_onnx(prepared.reference, torch.zeros(2, 1, 28, 28)), seen, images, prepared.test.labels)


def cifar10(network: str, data: Path, *, quick: bool) -> Subject:
    """Return the published ResNet-20 on JPEG images: right for differences to itself, not as CIFAR-10 scores."""
    del quick, network
    seen, _ = cifar10_images(data, "train50k", CALIBRATION)
    images, labels = cifar10_images(data, "test", 2000)
    return Subject(to_onnx(published_resnet_20(data), torch.zeros(2, 3, 32, 32)), seen, images, labels)


def published_resnet_20(data: Path) -> nn.Module:
    """Return the published ResNet-20 with its weights."""
    module = NETWORKS["resnet_20"]().eval()
    arrays = dict(np.load(data / "cifar10-resnets" / "resnet20.npz"))
    module.load_state_dict({name: torch.from_numpy(values) for name, values in arrays.items()}, strict=False)
    return module


def cifar10_images(data: Path, part: str, count: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the first images of ``train50k`` or ``test`` as the published networks take them, and their labels."""
    pixels, labels = cifar10_jpeg(str(data / "cifar10" / f"cifar10_{part}_jpg.npz"), count)
    mean, std = (np.array(row)[:, None, None] for row in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return ((pixels / 255.0 - mean) / std).astype(np.float32), labels


SUBJECTS: Mapping[str, Callable[..., Subject]] = MappingProxyType(
    {"lenet_300_100": mnist, "lenet_5": mnist, "resnet_20": cifar10}
)
Figures = dict[str, float | None]


def run(data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Measure every network, ours and NNCodec; a quick run takes one network and two points of each."""
    needed = ("mnist", "cifar10", "cifar10-resnets")
    if data is None or not all((data / folder).is_dir() for folder in needed):
        raise MissingDataError(
            f"post_training needs {', '.join(needed)} under --data, looked for them in {data}."
        )
    if not PEER.is_file():
        raise MissingDataError(f"post_training runs NNCodec with {PEER}, which is not there: {__doc__}")
    for network, subject in SUBJECTS.items():
        if quick and network != "lenet_300_100":
            continue
        yield from measured(network, subject(network, data, quick=quick), quick=quick)


def measured(network: str, subject: Subject, *, quick: bool) -> Iterator[Row]:
    """Measure one network at every point of both methods."""
    judge = Judge(subject, 100 if quick else EXPLAINED[network])
    peer: dict[int, Figures] = {}
    qps = QPS[network][2:6:3] if quick else QPS[network]
    for qp, size, model in nncodec(subject.model, qps, NONWEIGHT_QP[network]):
        peer[qp] = judge.figures(model, size)
        yield from figure_rows(BENCH, f"{network}/nncodec/qp{qp}", peer[qp])
    statistics = gather(subject.model, subject.calibration)
    own: list[Figures] = []
    for multiplier in MULTIPLIERS[network][4:6] if quick else MULTIPLIERS[network]:
        made = compress(statistics, multiplier)
        own.append(judge.figures(made.model, len(pack(made.tensors, "range")[0])))
        yield from figure_rows(BENCH, f"{network}/clearweight/{multiplier:.1e}", own[-1])
    for qp, theirs in peer.items():
        yield from figure_rows(BENCH, f"{network}/clearweight/at_qp{qp}", held_against(theirs, own))


def held_against(theirs: Figures, own: Sequence[Figures]) -> Figures:
    """Hold ours of no larger error against one of theirs; null where there is none.

    Two ways: the smallest, and, within `SHARE` of their bytes, the one whose maps are most alike.
    """
    limit = float(theirs["packed_bytes"] or 0.0)
    cosine = float(theirs["cosine_input_x_gradient"] or 0.0)
    equal = [
        (float(f["packed_bytes"] or 0.0) / limit, float(f["cosine_input_x_gradient"] or 0.0) - cosine)
        for f in own
        if (f["error_percent"] or 0.0) <= (theirs["error_percent"] or 0.0)
    ]
    small = [gain for share, gain in equal if share <= SHARE]
    least, gain = min(equal, default=(None, None))
    return {
        "packed_over_nncodec": least,
        "cosine_minus_nncodec": gain,
        "cosine_minus_nncodec_in_four_fifths": max(small, default=None),
    }


class Judge:
    """Holds a network's compressed forms against it."""

    def __init__(self, subject: Subject, explained: int) -> None:
        self._subject = subject
        self._pixels = torch.from_numpy(subject.images[:explained])
        self._logits = _logits(subject.model, subject.images)
        self._aim: Maps = reference_maps(OnnxModule(subject.model), self._pixels)
        self._bytes = 4 * sum(v.size for v in split_parameters(subject.model)[1].values())

    def figures(self, model: onnx.ModelProto, size: int) -> Figures:
        """Return every row of one point."""
        answers = compare_predictions(
            self._logits, _logits(model, self._subject.images), self._subject.labels
        )
        figures = asdict(answers)
        figures.pop("error_delta_interval_pt", None)
        own = maps_of(OnnxModule(model), self._pixels, self._aim.targets)
        sizes = {
            "reference_bytes": self._bytes,
            "packed_bytes": size,
            "ratio": self._bytes / size,
        }
        return sizes | figures | asdict(compare_maps(self._aim, own))


def nncodec(
    model: onnx.ModelProto, qps: Sequence[int], nonweight: int
) -> Iterator[tuple[int, int, onnx.ModelProto]]:
    """Yield qp, bytes and the decoded model."""
    structure, parameters = split_parameters(model)
    plain = {f"p{place}": values for place, values in enumerate(parameters.values())}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "weights.npz", **plain)
        worker = Path(__file__).parent / "nncodec_worker.py"
        command = [str(PEER), str(worker), f"{folder}/weights.npz", folder, str(nonweight), *map(str, qps)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for qp in qps:
            back = dict(np.load(Path(folder) / f"{qp}.npz"))
            decoded = {
                name: back[f"p{place}"].reshape(values.shape)
                for place, (name, values) in enumerate(parameters.items())
            }
            yield qp, int((Path(folder) / f"{qp}.bytes").read_text()), embed_parameters(structure, decoded)


def _logits(model: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    running = session(model)
    name = running.get_inputs()[0].name
    return np.concatenate(
        [running.run(None, {name: images[i : i + 250]})[0] for i in range(0, len(images), 250)]
    )


def figure_rows(bench: str, case: str, figures: Figures) -> Iterator[Row]:
    """Turn figures into rows; a metric's name ends in its unit."""
    for metric, value in figures.items():
        endings = {"bytes": "bytes", "percent": "%", "pt": "pt"}
        unit = next((sign for ending, sign in endings.items() if metric.endswith(ending)), "1")
        yield Row(bench, case, metric, value, "n/a" if value is None else unit)
