"""`clearweight report`: short figures and the way to the long ones."""

from clearweight.artifact import Artifact


def test_the_figures_are_the_manifests(command, exported, models):
    code, (fact,) = command.json("report", models)

    manifest = Artifact.open(exported.path).manifest
    assert code == 0
    assert fact["report"] == str(exported.path / "report.html")
    assert fact["packed_bytes"] == manifest.ledger.packed_bytes
    assert fact["similarity"] == {n: s.mean for n, s in manifest.fidelity.similarity.items()}
    assert fact["manifest_sha256"] == manifest.manifest_sha256


def test_people_see_the_path_of_the_page(command, exported):
    found = command("report", exported.path)

    assert found.exit_code == 0
    assert str(exported.path / "report.html") in found.stdout
    assert "fidelity passed" in found.stdout


def test_an_artifact_without_a_page_is_a_failed_check(command, tiny):
    found = command("report", tiny)

    assert found.exit_code == 1
    assert "report      none" in found.stdout


def test_a_damaged_artifact_is_bad_input(command, tiny):
    (tiny / "tiny" / "1" / "weights.cwt").write_bytes(b"")

    found = command("report", tiny)

    assert found.exit_code == 2
    assert "weights.cwt" in found.stderr
