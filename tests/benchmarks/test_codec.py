import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from benchmarks import BENCHMARKS, codec
from benchmarks.__main__ import main
from benchmarks.row import MissingDataError, Row, data_folder, show, write_json
from clearweight.artifact.huffman import code_lengths


@pytest.mark.parametrize("case", sorted(codec.CASES))
def test_cases_are_seeded_and_within_their_alphabet(case):
    sample, alphabet = codec.CASES[case]
    symbols = sample(5000)

    assert np.array_equal(symbols, sample(5000))
    assert symbols.size == 5000
    assert int(symbols.max()) < alphabet


@pytest.mark.parametrize("case", sorted(codec.CASES))
def test_payload_is_within_the_bars_on_a_small_sample(case):
    sample, alphabet = codec.CASES[case]
    rows = {row.metric: row for row in codec._coder_rows(case, sample(1 << 18), alphabet, 1)}

    assert rows["payload_over_ideal"].value <= 1.01
    assert rows["payload_over_zstd19"].value <= 1.0
    assert rows["decode_speed_over_zlib"].value > 0
    assert {row.bench for row in rows.values()} == {"codec"}


def test_ideal_bits_are_those_of_a_code_without_a_limit():
    counts = np.array([40, 30, 20, 7, 3])

    assert codec.ideal_huffman_bits(counts) == int((counts * code_lengths(counts)).sum())
    assert codec.ideal_huffman_bits(np.array([5])) == 0


def test_the_network_has_the_shape_of_vgg16():
    weights = sum(int(np.prod(shape)) for shape in codec.VGG16.values())
    biases = sum(shape[0] for shape in codec.VGG16.values())

    assert weights + biases == 138_357_544
    tensor = next(codec.network_tensors({"w.weight": (200, 300)}))
    assert np.count_nonzero(tensor.values) / 60_000 == pytest.approx(codec.DENSITY, abs=0.005)


def test_writing_and_reading_in_a_child_reports_sizes(tmp_path):
    written = codec.child(["write", str(tmp_path / "w"), "--quick"])
    read = codec.child(["read", str(tmp_path / "w"), "--quick"])

    assert written["dense"] == read["dense"]
    assert written["packed"] == read["packed"] == (tmp_path / "w").stat().st_size
    assert min(written["peak"], read["peak"]) > written["dense"]


def test_rows_become_json_and_a_table(tmp_path):
    rows = [Row("b", "c", "m", 1.5, "s"), Row("b", "c", "none", None, "n/a")]
    write_json(rows, tmp_path / "new" / "rows.json")
    console = Console(width=80, record=True, quiet=True)
    show(rows, console)

    assert json.loads((tmp_path / "new" / "rows.json").read_text())[1] == {
        "bench": "b", "case": "c", "metric": "none", "value": None, "unit": "n/a"
    }  # fmt: skip


def test_a_missing_data_folder_says_what_was_looked_for(tmp_path):
    (tmp_path / "mnist").mkdir()

    assert data_folder(tmp_path, "mnist") == tmp_path / "mnist"
    with pytest.raises(MissingDataError, match="cifar10"):
        data_folder(tmp_path, "cifar10")
    with pytest.raises(MissingDataError, match="--data"):
        data_folder(None, "mnist")


def test_the_runner_prints_rows_writes_json_and_reports_missing_data(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        codec, "run", lambda data, *, quick: [Row("codec", "case", "metric", float(quick), "ratio")]
    )

    assert main(["codec", "--quick", "--json", str(tmp_path / "rows.json")]) == 0
    assert "metric" in capsys.readouterr().out
    assert json.loads((tmp_path / "rows.json").read_text())[0]["value"] == 1.0

    def missing(data, *, quick):
        return [data_folder(data, "mnist")]

    monkeypatch.setattr(codec, "run", missing)
    assert main(["codec", "--data", str(tmp_path)]) == 2
    assert "mnist" in capsys.readouterr().err


def test_an_unknown_benchmark_lists_the_known():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nope"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert all(name in done.stderr for name in BENCHMARKS)
