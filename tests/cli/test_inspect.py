"""`clearweight inspect`: the ledger's totals are the files' sizes."""


def test_totals_equal_the_files(command, exported, models):
    code, (fact,) = command.json("inspect", models)

    sizes = {p.name: p.stat().st_size for p in exported.path.iterdir()}
    assert code == 0
    assert fact["files"] == sizes
    assert fact["packed_bytes"] == sizes["weights.cwt"]
    assert sum(row["bytes"] for row in fact["rows"]) + fact["overhead_bytes"] == sizes["weights.cwt"]
    assert fact["device_bytes"] == sum(sizes.values()) - sizes["report.html"]


def test_every_layer_is_listed_with_its_density_and_stages(command, exported, models):
    _, (fact,) = command.json("inspect", models)

    row = next(r for r in fact["rows"] if r["name"] == "fc1.weight")
    assert row["shape"] == list(exported.prepared.reference.fc1.weight.shape)
    assert row["density"] <= 0.3
    assert row["bits_per_weight"]["float32"] == 32
    assert row["bits_per_weight"]["packed"] == 8 * row["bytes"] / row["parameters"]
    table = command("inspect", models).stdout
    assert all(r["name"] in table for r in fact["rows"])


def test_a_damaged_artifact_fails_and_an_empty_folder_is_bad_input(command, tiny, tmp_path):
    (tiny / "tiny" / "1" / "weights.cwt").write_bytes(b"x")
    (tmp_path / "empty").mkdir()

    assert command("inspect", tiny).exit_code == 1
    assert command("inspect", tmp_path / "empty").exit_code == 2
