"""`clearweight serve`: wrong settings and empty folders are told in a line; the rest is the service's own tests."""

from tests.service import artifacts


def test_a_folder_without_artifacts_is_bad_input(command, tmp_path):
    found = command("serve", tmp_path, "--http-port", "0", "--grpc-port", "0")

    assert found.exit_code == 2
    assert "No artifact below" in found.stderr


def test_a_setting_out_of_range_is_named(command, tiny):
    found = command("serve", tiny, "--shadow", "2")

    assert found.exit_code == 2
    assert "shadow" in found.stderr


def test_a_damaged_artifact_alone_is_bad_input(command, tmp_path):
    path = artifacts.write(tmp_path)
    (path / "weights.cwt").write_bytes(b"x")

    found = command("serve", tmp_path, "--http-port", "0", "--grpc-port", "0")

    assert found.exit_code == 2
    assert "weights.cwt" in found.stderr
