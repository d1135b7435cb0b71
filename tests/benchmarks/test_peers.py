"""Starting other servers: what is missing is said, and what is started is told everything it needs."""

from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peers import PEERS, Order, installed


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_peer_is_named_with_the_command_that_makes_it(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    present = next(other for other in PEERS if other != name)
    PEERS[present].python.parent.mkdir(parents=True)
    PEERS[present].python.touch()

    assert list(installed()) == [present]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(PEERS) - 1
    line = next(line for line in said if line.startswith(PEERS[name].title))
    assert f"python3.11 -m venv build/peers/{name} && build/peers/{name}/bin/pip install {name}==" in line


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_told_its_ports_and_serves_from_a_file_that_is_there(name, tmp_path):
    order = Order(tmp_path, tmp_path / "model.onnx", "cnn", http=12345, grpc=23456)
    command = PEERS[name].command(Path("venv/bin/python"), order)
    told = " ".join(command) + "".join(file.read_text() for file in tmp_path.glob("*.json"))

    assert command[0].startswith("venv/bin/")
    assert (peers.MODELS / f"{name}_model.py").is_file()
    assert f"{name}_model" in told
    assert "12345" in told
    assert ("23456" in told) == ("grpc" in PEERS[name].protocols)
    assert str(order.file) in told or "MODEL_FILE" in (peers.MODELS / f"{name}_model.py").read_text()
