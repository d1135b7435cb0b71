"""A recipe with ``deploy: int8``, from the quantized graph to the reply and the three verdicts."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from torch import nn

from clearweight.artifact import Artifact, CodedTensor, WeightsReader, write_artifact, write_weights
from clearweight.artifact.score import average_ranks
from clearweight.exporter.calibration import NUDGE, distances, explained, fidelity
from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.emission import explain_graphs
from clearweight.exporter.errors import ConstraintError, RecipeError
from clearweight.exporter.evaluate.onnx_module import OnnxModule
from clearweight.exporter.explain import build
from clearweight.exporter.graph import int8_onnx, session, split_parameters, to_onnx
from clearweight.exporter.pipeline import finish
from clearweight.exporter.quantization import COMPARED_SAMPLES, quantize
from clearweight.exporter.sections import FidelitySection
from clearweight.service import Engine
from clearweight.service.core.model import Model
from clearweight.service.core.observer import Observer
from clearweight.service.drift import check_fidelity
from tests import small_digits


@pytest.fixture(scope="module")
def deployed(exported, tmp_path_factory):
    """The network of the small export, quantized."""
    prepared = dataclasses.replace(
        exported.prepared, recipe=small_digits.recipe(deploy="int8"), checkpoints=Checkpoints()
    )
    return finish(prepared, exported.compressed.plain, tmp_path_factory.mktemp("int8") / "models")


@pytest.fixture(scope="module")
def opened(deployed):
    return Artifact.open(deployed.path)


def test_the_packed_weights_are_int8_under_the_parameters_own_names(exported, deployed, opened):
    before = {row.name: row for row in exported.manifest.ledger.rows}
    after = {row.name: row for row in deployed.manifest.ledger.rows}
    stored = dict(opened.weights().tensors())

    assert before.keys() <= after.keys()
    for name, row in before.items():
        assert after[name].shape == row.shape
        assert after[name].parameters == row.parameters
        assert stored[name].dtype == (np.int8 if name.endswith("weight") else np.int32)
    pruned = exported.compressed.plain.fc1.weight.detach().numpy() == 0
    assert pruned.mean() > 0.5
    assert not stored["fc1.weight"][pruned].any()


def test_the_ledger_counts_each_parameter_once_and_every_byte(exported, deployed, opened):
    book = deployed.manifest.ledger
    added = [row for row in book.rows if row.parameters == 0]

    assert book.reference_bytes == exported.manifest.ledger.reference_bytes
    assert sum(row.bytes for row in book.rows) + book.overhead_bytes == book.packed_bytes
    assert book.packed_bytes == (deployed.path / "weights.cwt").stat().st_size
    assert {row.name.rpartition(".")[2] for row in added} == {"scale", "zero_point"}
    assert sum(row.stages[0].bytes for row in book.rows) == book.reference_bytes
    sizes = {path.name: path.stat().st_size for path in deployed.path.iterdir()}
    assert opened.device_bytes == sum(sizes.values()) - sizes["report.html"]


def test_the_manifest_says_what_was_passed_and_what_it_is_worth(deployed):
    records = deployed.manifest.explainers

    assert set(records) == {"gradient", "input_x_gradient", "gradcam", "occlusion"}
    for method, record in records.items():
        assert record.gradient_ste == (method != "occlusion")
        assert (record.verification.cosine_to_float_model is None) == (method == "occlusion")
    assert records["input_x_gradient"].verification.cosine_to_float_model > 0.9
    assert not any(
        r.gradient_ste for r in Artifact.open(deployed.reference_path).manifest.explainers.values()
    )


@pytest.mark.parametrize("method", ["input_x_gradient", "gradcam"])
def test_the_agreement_is_the_mean_over_inputs_by_hand(exported, deployed, method):
    prepared = deployed.prepared
    x = prepared.inputs(prepared.splits.calibration).numpy()[:COMPARED_SAMPLES]
    target = session(deployed.compressed.predict).run(None, {"input": x})[0].argmax(1)
    feed = {"input": x, "target": target}
    own, exact = (
        session(each.compressed.graphs[method].model).run(["explain"], feed)[0]
        for each in (deployed, exported)
    )
    hidden = session(deployed.compressed.graphs["occlusion"].model).run(
        ["explain"], feed | {"baseline": x * 0}
    )[0]
    if method == "gradcam":  # one of its places covers 2 x 2 of the input's
        hidden = hidden.reshape(len(x), 1, 4, 2, 4, 2).mean((3, 5))

    cosines, ranks = [], []
    for a, b, c in zip(
        own.reshape(len(x), -1), exact.reshape(len(x), -1), hidden.reshape(len(x), -1), strict=True
    ):
        if a.any() and b.any():
            cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        if len(np.unique(a)) > 1:
            ranks.append(np.corrcoef(average_ranks(np.float64([a, c])))[0, 1])
    stated = deployed.manifest.explainers[method].verification
    assert stated.cosine_to_float_model == pytest.approx(np.mean(cosines), abs=1e-5)
    assert stated.spearman_to_own_occlusion == pytest.approx(np.mean(ranks), abs=1e-5)


def test_the_reply_carries_the_mark_and_all_verdicts_pass(exported, deployed):
    test = deployed.prepared.test
    with Engine(deployed.path.parent.parent) as engine:
        answered = engine.explain(test.inputs[:8])
        labels = engine.predict(test.inputs).outputs["logits"].argmax(1)
        health = engine.health(deployed.manifest.name)

    assert answered.parameters["gradient_ste"] is True
    assert (labels == test.labels).mean() == pytest.approx(deployed.manifest.compressed_quality.accuracy)
    assert health.integrity.state == health.fidelity.state == "passed"
    assert health.integrity.occlusion_cosine > 0.999


def test_fidelity_scores_occlusion_on_both_networks(deployed):
    prepared, record = deployed.prepared, deployed.manifest.fidelity
    x = prepared.inputs(prepared.splits.calibration).numpy()[:100]
    target = session(deployed.reference.predict).run(None, {"input": x})[0].argmax(1)
    maps = [
        session(build(each.predict, "occlusion").model).run(
            ["explain"], {"input": x, "target": target, "baseline": x * 0}
        )[0]
        for each in (deployed.reference, deployed.compressed)
    ]

    assert record.occlusion.mean == pytest.approx(1 - np.nanmean(distances(*maps)["cosine"]), abs=1e-6)
    assert record.passed


def test_the_integrity_limits_are_what_roundings_move(deployed):
    prepared, limit = deployed.prepared, deployed.manifest.integrity
    x = prepared.inputs(prepared.splits.calibration).numpy()
    target = session(deployed.reference.predict).run(None, {"input": x})[0].argmax(1)
    running = session(deployed.compressed.graphs["input_x_gradient"].model)
    plain = session(deployed.compressed.predict).run(None, {"input": x})[0]
    moved = explained(running, x * NUDGE, target).logits

    assert limit.logits_atol >= 2 * np.abs(moved - plain).max() - 1e-6
    assert limit.logits_atol < 0.1 * np.abs(plain).max()
    assert 0.9 <= limit.map_cosine_min <= 0.999
    assert limit.occlusion_cosine_min >= limit.map_cosine_min


@pytest.mark.parametrize("name", ["conv1.weight", "fc2.weight"])
def test_one_changed_weight_fails_integrity(deployed, opened, tmp_path, name):
    tensors = dict(opened.weights().tensors())
    changed = tensors[name].copy()
    place = np.unravel_index(np.abs(changed).argmax(), changed.shape)
    changed[place] = -changed[place]
    file = io.BytesIO()
    report = write_weights(file, [CodedTensor(n, changed if n == name else v) for n, v in tensors.items()])
    beside = {row.name for row in opened.manifest.ledger.rows if row.parameters == 0}
    files = {entry: (opened.path / entry).read_bytes() for entry in opened.manifest.files}
    forged = write_artifact(
        tmp_path,
        dataclasses.replace(
            opened.manifest, files={}, manifest_sha256="", ledger=report.ledger(dict.fromkeys(beside, 0))
        ),
        files | {"weights.cwt": file.getvalue()},
    )
    model = Model(Artifact.open(forged), threads=1, observer=Observer())

    assert model.integrity.state == "failed"
    assert "occlusion" in model.integrity.reason


def test_a_too_coarse_network_fails_by_occlusion_though_its_straight_through_map_is_perfect():
    torch.manual_seed(2)
    exact = to_onnx(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.zeros(2, 1, 8, 8))
    x = np.random.default_rng(0).random((20, 1, 8, 8), np.float32)
    outlier = x.copy()
    outlier[0, 0, 0, 0] = 1000.0  # one broken pixel: every other one is now less than half a step
    coarse = int8_onnx(exact, outlier)
    target = session(exact).run(None, {"input": x})[0].argmax(1)

    def compared(method):
        graphs = [build(model, method) for model in (coarse, exact)]
        return distances(*(explained(session(g.model), x, target, g).maps for g in graphs))

    def judged(occlusion):
        return fidelity(
            "input_x_gradient",
            compared("input_x_gradient"),
            agreement=1.0,
            accuracy_drop=0.0,
            budget=FidelitySection(min_attribution_similarity=0.9),
            retrain_floor=None,
            occlusion=occlusion,
        )

    assert judged(None).similarity["cosine"].mean > 0.999
    assert judged(None).passed
    assert not judged(compared("occlusion")["cosine"]).passed


def test_the_service_holds_occlusion_against_the_budget_too(deployed, opened):
    record, probes = deployed.manifest.fidelity, opened.canaries()
    low = dataclasses.replace(record, occlusion=dataclasses.replace(record.occlusion, mean=0.5))
    turned = dataclasses.replace(probes, occlusions_compressed=-probes.occlusions_compressed)

    assert check_fidelity(record, probes).state == "passed"
    assert "Occlusion similarity 0.5000 is below" in check_fidelity(low, probes).reason
    assert "stored occlusion maps" in check_fidelity(record, turned).reason


def test_shared_values_stay_shared(exported):
    codes = [
        CodedTensor(row.name, values)
        for row, (_, values) in zip(
            exported.manifest.ledger.rows,
            WeightsReader(exported.compressed.contents["weights.cwt"]).tensors(),
            strict=True,
        )
    ]
    _, floats = split_parameters(exported.compressed.predict)
    entries, indices = np.unique(floats["fc1.weight"], return_inverse=True)
    book = CodedTensor("fc1.weight", floats["fc1.weight"], entries, indices.reshape(24, 192).astype(np.uint8))
    x = exported.prepared.inputs(exported.prepared.splits.calibration).numpy()[:50]

    plain = quantize(exported.compressed.predict, codes, x)
    shared = quantize(exported.compressed.predict, [book, *(c for c in codes if c.name != book.name)], x)

    count = {len(np.unique(t.values)) for t in shared.tensors if t.name == "fc1.weight"}.pop()
    assert count <= len(entries) <= 32
    assert len(np.unique(next(t.values for t in plain.tensors if t.name == "fc1.weight"))) > count
    assert {t.name for t in shared.tensors} - shared.beside == set(floats)


def test_a_parameter_that_the_quantizer_merges_is_named(monkeypatch, exported):
    monkeypatch.setattr(
        "clearweight.exporter.quantization.int8_onnx",
        lambda *_args, **_kwargs: to_onnx(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.zeros(2, 1, 8, 8)
        ),
    )
    with pytest.raises(ConstraintError, match=r"'conv1\.weight' has no integers of its shape"):
        quantize(exported.compressed.predict, [], np.zeros((1, 1, 8, 8), np.float32))


def test_an_explainer_that_int8_cannot_have_is_refused_by_name(deployed):
    recipe = small_digits.recipe(deploy="int8", explainers=["input_x_gradient", "deconvnet"])

    with pytest.raises(
        RecipeError, match=r"'deconvnet' does not work on this network: .* explain the float network"
    ):
        explain_graphs(deployed.compressed.predict, recipe)


def test_occlusion_is_needed_whether_or_not_the_recipe_names_it(deployed):
    predict, recipe = (
        deployed.compressed.predict,
        small_digits.recipe(explainers=["gradient"], default_explainer="gradient"),
    )

    assert set(explain_graphs(predict, recipe)) == {"gradient"}
    assert set(explain_graphs(predict, recipe, ("occlusion",))) == {"gradient", "occlusion"}


def test_deploy_is_one_of_three_words():
    assert small_digits.recipe().deploy == "float32"
    with pytest.raises(RecipeError, match="deploy"):
        small_digits.recipe(deploy="int4")


def test_the_file_as_a_module_is_the_torch_network_forward_and_backward(exported):
    module = exported.compressed.plain
    own = OnnxModule(exported.compressed.predict)
    x = exported.prepared.inputs(exported.prepared.test)[:6]

    def run(network):
        source = x.clone().requires_grad_()
        logits = network(source)
        weights = torch.arange(60.0).reshape(6, 10)
        return logits.detach(), torch.autograd.grad((weights * logits).sum(), source)[0]

    for found, expected in zip(run(own), run(module), strict=True):
        assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
