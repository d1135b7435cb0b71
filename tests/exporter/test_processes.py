"""Training in two processes: the same global batches, so nearly the same masks and the same accuracy."""

import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from clearweight.exporter.checkpoint import Checkpoints
from clearweight.exporter.compress import coded_tensors
from clearweight.exporter.compression import compress
from clearweight.exporter.preparation import prepare
from clearweight.exporter.training import silent
from tests import small_digits

TUNE = {"epochs": 4, "batch_size": 64, "learning_rate": 0.003}


def recipe():
    return small_digits.recipe(
        objective={"terms": [{"task": {}}, {"distillation": {}}, {"input_matching": {}}]},
        steps=[
            {"prune": {"density": 0.3, "criterion": "first_order", "update_every": 10, "fine_tune": TUNE}},
            {"share_weights": {"bits": 5, "fine_tune": TUNE | {"epochs": 1, "learning_rate": 0.0003}}},
        ],
    )


def work(fabric: Fabric, checkpoints: str, out: str) -> None:
    prepared = prepare(recipe(), silent, Checkpoints(Path(checkpoints)))
    prepared = replace(prepared, checkpoints=Checkpoints(), runtime=replace(prepared.runtime, fabric=fabric))
    model = compress(prepared)
    with torch.no_grad():
        logits = model(prepared.inputs(prepared.splits.validation))
    right = float((logits.argmax(1).numpy() == prepared.splits.validation.labels).mean())
    tensors = {tensor.name: tensor.values for tensor in coded_tensors(model)}
    np.savez(f"{out}/{fabric.world_size}-{fabric.global_rank}.npz", accuracy=right, **tensors)


def launch(devices: int, checkpoints: str, out: str) -> None:
    strategy = "auto" if devices == 1 else "ddp_spawn"
    fabric = Fabric(accelerator="cpu", devices=devices, strategy=strategy)
    fabric.launch(work, checkpoints, out)


@pytest.mark.slow
def test_two_processes_come_to_the_masks_and_accuracy_of_one(tmp_path):
    prepare(recipe(), silent, Checkpoints(tmp_path / "kept"))  # one reference for both
    for devices in (1, 2):
        process = multiprocessing.get_context("spawn").Process(
            target=launch, args=(devices, str(tmp_path / "kept"), str(tmp_path))
        )
        process.start()
        process.join(250)
        assert process.exitcode == 0
    one, first, second = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("1-0", "2-0", "2-1"))

    assert all(np.array_equal(first[name], second[name]) for name in first)
    weights = [name for name in one if name.endswith("weight")]
    same = np.concatenate([((one[n] != 0) == (first[n] != 0)).reshape(-1) for n in weights])
    assert same.mean() >= 0.999
    assert abs(one["accuracy"] - first["accuracy"]) <= 0.004
    assert 0.2 < np.mean([(one[n] != 0).mean() for n in weights]) < 0.5
