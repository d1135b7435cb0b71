"""`large_export`: how long `clearweight export MODEL.onnx` takes for a network of VGG-16's shape, and in what memory.

The command itself runs, in a process of its own, on random weights and random inputs: what is measured is the export,
not how good the network is. ``peak_over_dense`` is the most memory that process held over the float32 weights, the
interpreter and its libraries included; ``cpu_seconds`` is what both cores spent.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch

from benchmarks.row import Row
from benchmarks.vgg import VGG16, Vgg
from clearweight.exporter.graph import to_onnx

BENCH = "large_export"
INPUTS = 64
SIZE = 224
THREADS = 2


def write_inputs(folder: Path, *, part: int) -> int:
    """Write the model, an ``1/part`` of VGG-16's width, and its calibration inputs; return the bytes of its weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stages = [[wide // part for wide in stage] for stage in VGG16]
        module = Vgg(stages, SIZE, channels=3, hidden=4096 // part, classes=1000 // part).eval()
        onnx.save(to_onnx(module, torch.zeros(2, 3, SIZE, SIZE)), folder / "vgg_16.onnx")
        np.save(folder / "calibration.npy", torch.randn(INPUTS // part, 3, SIZE, SIZE).numpy())
    return 4 * sum(parameter.numel() for parameter in module.parameters())


def written_apart(folder: Path, *, part: int) -> int:
    """Do `write_inputs` in another process: what a process is started with, its peak begins at."""
    command = [sys.executable, "-m", "benchmarks.large_export", str(folder), str(part)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def exported(folder: Path) -> tuple[float, float, int]:
    """Export; return the seconds it took, the seconds of processor time, and the most bytes it held.

    Raises
    ------
    RuntimeError
        The command could not read its input.
    """
    command = [sys.executable, "-m", "clearweight.cli.main", "export", str(folder / "vgg_16.onnx")]
    command += ["--data", str(folder / "calibration.npy"), "--out", str(folder / "models")]
    command += ["--methods", "input_x_gradient", "--threads", str(THREADS)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        _, status, used = os.wait4(running.pid, 0)
        running.returncode = os.waitstatus_to_exitcode(status)
    # 1: no strength keeps the budget, which random weights may well not; everything is written all the same.
    if running.returncode not in (0, 1):
        raise RuntimeError(f"The export ended with exit code {running.returncode}.")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def run(_data: Path | None, *, quick: bool) -> Iterable[Row]:
    """Export once; a quick run takes an eighth of the width."""
    case = "vgg_16_shape_eighth" if quick else "vgg_16_shape"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dense = written_apart(folder, part=8 if quick else 1)
        seconds, spent, peak = exported(folder)
        (packed,) = (folder / "models").glob("vgg_16/1/weights.cwt")
        yield Row(BENCH, case, "packed_bytes", packed.stat().st_size, "bytes")
    yield Row(BENCH, case, "reference_bytes", dense, "bytes")
    yield Row(BENCH, case, "seconds", seconds, "s")
    yield Row(BENCH, case, "cpu_seconds", spent, "s")
    yield Row(BENCH, case, "peak_over_dense", peak / dense, "1")


if __name__ == "__main__":
    print(write_inputs(Path(sys.argv[1]), part=int(sys.argv[2])))
