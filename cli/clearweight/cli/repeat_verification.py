"""The verification of an artifact's explain graphs, repeated where the artifact lies; no torch is needed.

With onnx installed every graph is verified as it was at export: float64 evaluation, finite differences, completeness,
the frozen-map test, now on the canaries. A device that has ONNX Runtime alone repeats what needs no second evaluation.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

    from clearweight.artifact import Artifact, Explainer, Verification
    from clearweight.service.core.model import Explained, Model

# What the exporter's own verification allows: completeness relative to the largest logit, and the least movement of a
# map that counts, relative to its size.
COMPLETENESS_ERROR_MAX = 1e-3
MOVES = 1e-3
SAMPLES = 4
"""Canaries taken; the float64 evaluation of one takes about a second on a small network."""


@dataclass(frozen=True)
class Repeated:
    """What came of one explain graph.

    Attributes
    ----------
    kind : "float64" for the whole verification, "runtime" for what needs ONNX Runtime alone
    problem : why it failed, "" if it did not
    stated, found : the record in the manifest, and the one made here (None where it failed, or of kind "runtime")
    completeness_error_max : largest on the canaries, None where the method has none
    follows_input, follows_target : whether the map changes with the input and with the class (kind "runtime")
    """

    kind: str
    problem: str
    stated: "Verification"
    found: "Verification | None" = None
    completeness_error_max: float | None = None
    follows_input: bool | None = None
    follows_target: bool | None = None


def can_evaluate_float64() -> bool:
    """Tell whether what the whole verification needs is installed."""
    return find_spec("onnx") is not None and find_spec("onnx_ir") is not None


def repeat(artifact: "Artifact", model: "Model", *, float64: bool) -> dict[str, Repeated]:
    """Verify every explain graph of an artifact again.

    Parameters
    ----------
    float64 : bool
        The whole verification; False repeats what ONNX Runtime alone can.
    """
    canaries = artifact.canaries()
    x = model.prepare(canaries.inputs[:SAMPLES])
    entries = artifact.manifest.explainers
    if len(x) < 2 or not entries:
        return {}
    if float64:
        return _whole(artifact, entries, x)
    return {method: _on_runtime(model, entry, x) for method, entry in entries.items()}


def _whole(
    artifact: "Artifact", entries: "Mapping[str, Explainer]", x: NDArray[np.float32]
) -> dict[str, Repeated]:
    from clearweight.exporter.errors import ExporterError
    from clearweight.exporter.explain import verify
    from clearweight.exporter.explain.record import graph_of

    predict, *graphs = whole_graphs(artifact, ["predict.onnx", *(entry.file for entry in entries.values())])
    found = {}
    for (method, entry), graph in zip(entries.items(), graphs, strict=True):
        try:
            seen = verify(graph_of(entry, graph), predict, x, None)
        except ExporterError as error:
            found[method] = Repeated("float64", str(error), entry.verification)
        else:
            found[method] = Repeated(
                "float64", "", entry.verification, seen, completeness_error_max=seen.completeness_error_max
            )
    return found


def whole_graphs(artifact: "Artifact", files: list[str]) -> "list[onnx.ModelProto]":
    """Return graphs of an artifact with its weights inside, as self-contained ONNX models."""
    import onnx

    from clearweight.exporter.graph import embed_parameters

    weights = dict(artifact.weights().tensors())
    graphs = []
    for file in files:
        outline = onnx.load_model_from_string(artifact.graph(file))
        named = {tensor.name for tensor in outline.graph.initializer}
        graphs.append(
            embed_parameters(outline, {name: value for name, value in weights.items() if name in named})
        )
    return graphs


def _on_runtime(model: "Model", entry: "Explainer", x: NDArray[np.float32]) -> Repeated:
    """Completeness, and whether the map follows its input and its class, on ONNX Runtime alone."""
    feed = {model.input_names[0]: x}
    logits = model.predict(feed, stage="canary")[0]
    runs = [
        model.explain(feed, np.full(len(x), target, np.int64), entry.method, stage="canary")
        for target in np.argsort(-logits[0], kind="stable")[:2]
    ]
    maps = np.stack([run.map for run in runs]).astype(np.float64)
    follows_input, follows_target = _moves(maps, 1), _moves(maps, 0)
    missing = _completeness(runs)
    problem = ""
    if not np.isfinite(maps).all():
        problem = f"{entry.file} returns values that are not finite."
    elif missing is not None and "path" not in entry.inputs and missing > _allowed(logits):
        problem = f"{entry.file}: map and bias miss the logit by {missing:.3g}."
    elif entry.verification.frozen_map == "passed" and not (follows_input or follows_target):
        problem = (
            f"{entry.file} returns one map for every input and every class, the manifest says otherwise."
        )
    return Repeated(
        "runtime",
        problem,
        entry.verification,
        completeness_error_max=missing,
        follows_input=follows_input,
        follows_target=follows_target,
    )


def _allowed(logits: NDArray[np.float32]) -> float:
    """Return the largest completeness error of a method that is exact; a path's is its quadrature, and only shown."""
    return COMPLETENESS_ERROR_MAX * max(1.0, float(np.abs(logits).max()))


def _completeness(runs: "list[Explained]") -> float | None:
    errors = [run.completeness_error for run in runs if run.completeness_error is not None]
    return float(np.abs(np.stack(errors)).max()) if errors else None


def _moves(maps: NDArray[np.float64], axis: int) -> bool:
    """Tell whether any neighbours along an axis differ by more than rounding."""
    if maps.shape[axis] < 2:
        return False
    return bool(np.abs(np.diff(maps, axis=axis)).max() > MOVES * np.abs(maps).max())


def document(found: Mapping[str, Repeated]) -> dict[str, Any]:
    """Return the results for machines."""
    return {method: asdict(entry) for method, entry in found.items()}
