"""The artifact of a compressed ONNX file: explain graphs, packed weights, canaries, fidelity and the drift null."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from numpy.typing import NDArray

from clearweight.artifact import (
    Canaries,
    CodedTensor,
    Coder,
    Explainer,
    Manifest,
    Preprocessing,
    Quality,
    TensorSpec,
    WeightsReport,
    write_artifact,
    write_weights,
)
from clearweight.artifact.errors import ArtifactExistsError
from clearweight.exporter.calibration import (
    Explained,
    chunk_of,
    distances,
    drift_null,
    explained,
    fidelity,
    integrity_limit,
    session_without_optimisation,
)
from clearweight.exporter.canaries import canary, synthetic
from clearweight.exporter.data import Labelled
from clearweight.exporter.description import device_bytes
from clearweight.exporter.errors import DataError
from clearweight.exporter.evaluate.onnx_module import OnnxModule
from clearweight.exporter.explain import NotApplicableError, build, verify
from clearweight.exporter.explain.record import record
from clearweight.exporter.graph import session
from clearweight.exporter.graph.parameters import structure_of
from clearweight.exporter.outside import Parameters
from clearweight.exporter.own_model import OwnModel
from clearweight.exporter.post_training.budget import Budget, Found, divergence, search
from clearweight.exporter.post_training.compress import compress, gather
from clearweight.exporter.report import ReportData, render_report
from clearweight.exporter.sections import FidelitySection
from clearweight.exporter.training import Progress, silent

# Inputs on which the explain graphs are verified, and that travel as canaries.
VERIFIED, CANARIES = 4, 16
# Probes that stand in where there is no data.
PROBES = 128
DEFAULT = "input_x_gradient"


@dataclass(frozen=True)
class Order:
    """What is wanted of an ONNX file.

    Attributes
    ----------
    methods : explainers; those that do not work on this network are left out, `input_x_gradient` must
    canary_source : ``calibration`` (inputs of the file travel with the artifact) or ``synthetic``
    """

    name: str
    version: str = "1"
    budget: Budget = field(default_factory=Budget)
    methods: tuple[str, ...] = ("gradient", DEFAULT, "gradcam")
    coder: Coder = "huffman"
    canary_source: str = "calibration"
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Exported:
    """What was left behind.

    Attributes
    ----------
    found : the multiplier, and what it came to on inputs that compression did not see
    """

    path: Path
    reference_path: Path
    manifest: Manifest
    found: Found

    @property
    def passed(self) -> bool:
        """Whether the budget is kept."""
        return self.manifest.fidelity is not None and self.manifest.fidelity.passed


@dataclass(frozen=True, eq=False)
class _Network:
    """One network as files."""

    graphs: Mapping[str, onnx.ModelProto]
    records: dict[str, Explainer]
    contents: dict[str, bytes | Path]
    report: WeightsReport
    chunk: int

    def explained(
        self,
        threads: int,
        *asked: tuple[NDArray[np.float32], NDArray[np.int64] | None],
        optimised: bool = True,
    ) -> list[Explained]:
        """Explain inputs, each with its targets, in a session that is there no longer than that."""
        opened = session if optimised else session_without_optimisation
        running = opened(self.graphs[DEFAULT], threads=threads)
        return [explained(running, inputs, target, chunk=self.chunk) for inputs, target in asked]


def probes(own: OwnModel, count: int, seed: int) -> NDArray[np.float32]:
    """Build inputs by optimisation where there are none: each drives one class."""
    network = OnnxModule(own.classifier)
    classes = own.classifier.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return synthetic(network, Preprocessing(), own.row, classes, count, seed).inputs


def export_onnx(
    own: OwnModel,
    inputs: NDArray[np.float32] | None,
    order: Order,
    out: Path,
    progress: Progress = silent,
    *,
    overwrite: bool = False,
) -> Exported:
    """Compress an ONNX classifier inside a budget and write its artifact, and the reference beside it.

    Parameters
    ----------
    inputs : (n, ...) as the model takes them, without labels; every other one is kept for measuring. None: probes

    Raises
    ------
    ExporterError
        The network or the inputs do not allow it.
    ArtifactExistsError
        The version is there already and ``overwrite`` is False.
    """
    target = out / order.name / order.version
    if target.exists() and not overwrite:
        raise ArtifactExistsError(
            f"{target} is already there. Choose another version, or ask to overwrite it."
        )
    given = probes(own, PROBES, 0) if inputs is None else inputs
    if len(given) < 2 * VERIFIED:
        raise DataError(f"{len(given)} inputs are given, expected {2 * VERIFIED} or more.")
    seen, held = given[::2], given[1::2]
    statistics = gather(
        own.classifier, seen, threads=order.threads, on_row=lambda k, n: progress("statistics", k, n, None)
    )
    tries: list[Found] = []

    def told(found: Found) -> None:
        tries.append(found)
        progress("search", len(tries), len(tries) + 1, found.similarity)

    found = search(
        statistics, own.classifier, held, order.budget, method=DEFAULT, threads=order.threads, on_try=told
    )
    if inputs is None:
        order = replace(order, canary_source="synthetic")
    sent = held[:CANARIES] if order.canary_source == "calibration" else probes(own, CANARIES, 1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        made = compress(statistics, found.multiplier, folder)
        del statistics
        compressed = _network(made.model, made.tensors, order, held, folder / "compressed.cwt", progress)
        del made
        parameters = Parameters(own.classifier)
        whole = (CodedTensor(name, values) for name, values in parameters.items())
        plainly = replace(order, coder="huffman")
        reference = _network(own.classifier, whole, plainly, held, folder / "reference.cwt", progress)
        return _write(order, out, held, (reference, compressed), sent, found, overwrite=overwrite)


def _network(
    model: onnx.ModelProto,
    tensors: Iterable[CodedTensor],
    order: Order,
    samples: NDArray[np.float32],
    packed: Path,
    progress: Progress,
) -> _Network:
    with packed.open("wb") as file:
        report = write_weights(file, tensors, coder=order.coder)
    contents: dict[str, bytes | Path] = {"predict.onnx": _structure(model), "weights.cwt": packed}
    graphs, records = {}, {}
    for method in dict.fromkeys((*order.methods, DEFAULT)):
        try:
            graph = build(model, method)
        except NotApplicableError:
            if method == DEFAULT:
                raise
            continue
        records[method] = record(graph, verify(graph, model, samples[:VERIFIED], None))
        graphs[method] = graph.model
        contents[f"explain.{method}.onnx"] = _structure(graph.model)
        progress("explain graphs", len(records), len(order.methods), None)
    return _Network(graphs, records, contents, report, chunk_of(model))


def _structure(model: onnx.ModelProto) -> bytes:
    return structure_of(model).SerializeToString(deterministic=True)


def _write(
    order: Order,
    out: Path,
    held: NDArray[np.float32],
    networks: tuple[_Network, _Network],
    sent: NDArray[np.float32],
    found: Found,
    *,
    overwrite: bool,
) -> Exported:
    reference, compressed = networks
    aim, answered = reference.explained(order.threads, (held, None), (sent, None))
    target = aim.logits.argmax(1).astype(np.int64)
    raw = Labelled(sent, answered.logits.argmax(1).astype(np.int64))
    own, tested = compressed.explained(order.threads, (held, target), (sent, raw.labels))
    (plain,) = compressed.explained(order.threads, (held, target), optimised=False)
    scores, floors = distances(own.maps, aim.maps), distances(plain.maps, own.maps)
    disagreement = (own.logits.argmax(1) != target).astype(np.float64)
    level = fidelity(
        DEFAULT,
        scores,
        agreement=1.0 - float(disagreement.mean()),
        accuracy_drop=0.0,
        budget=FidelitySection(min_attribution_similarity=order.budget.min_attribution_similarity),
        retrain_floor=None,
    )
    kept = divergence(aim.logits, own.logits) <= order.budget.max_logit_kl
    nothing_known = Quality(None, None, None)
    row, graph = held.shape[1:], compressed.graphs[DEFAULT].graph
    manifest = Manifest(
        name=order.name,
        version=order.version,
        variant="compressed",
        inputs=(TensorSpec(graph.input[0].name, "FP32", (-1, *row)),),
        outputs=(TensorSpec(graph.output[1].name, "FP32", (-1, aim.logits.shape[1])),),
        labels=tuple(map(str, range(aim.logits.shape[1]))),
        preprocessing=Preprocessing(),
        ledger=compressed.report.ledger(),
        reference_quality=nothing_known,
        compressed_quality=nothing_known,
        explainers=compressed.records,
        default_explainer=DEFAULT,
        fidelity=replace(level, accuracy_drop=None, passed=level.passed and kept),
        integrity=integrity_limit(plain, own),
        drift=drift_null(DEFAULT, scores, floors, disagreement, target),
        canaries=Canaries(source=order.canary_source, count=len(sent)),
        splits={"calibration": hashlib.sha256(np.ascontiguousarray(held).tobytes()).hexdigest()},
        environment={
            **{package: version(package) for package in ("onnx", "onnxruntime", "numpy")},
            "python": platform.python_version(),
            "machine": platform.machine(),
            "threads": str(order.threads),
            "multiplier": repr(found.multiplier),
        },
    )
    contents = compressed.contents | {"canaries.safetensors": canary(raw, answered, tested).to_bytes()}
    shown = ReportData(
        manifest=manifest,
        inputs=raw.inputs,
        labels=raw.labels,
        maps_reference=answered.maps,
        maps_compressed=tested.maps,
        null_scores=scores["pooled_cosine"],
    )
    needed = device_bytes(manifest, contents, len(render_report(shown).encode()))
    page = render_report(replace(shown, device_bytes=needed))
    beside = replace(
        manifest,
        variant="reference",
        ledger=reference.report.ledger(),
        explainers=reference.records,
        fidelity=None,
        drift=None,
        integrity=integrity_limit(aim, aim),
    )
    same = canary(raw, answered, answered).to_bytes()
    reference_path = write_artifact(
        out, beside, reference.contents | {"canaries.safetensors": same}, overwrite=True
    )
    path = write_artifact(out, manifest, contents | {"report.html": page.encode()}, overwrite=overwrite)
    return Exported(path, reference_path, manifest, found)
