"""`clearweight bench`: a process for every graph, and figures that belong to it."""

import pytest

from tests.service import artifacts


def test_predict_and_every_explainer_are_measured(command, tiny):
    code, found = command.json("bench", tiny / "tiny" / "1", "--seconds", 0, "--batch", 3)

    assert code == 0
    assert [row["method"] for row in found["rows"]] == ["predict", *sorted(artifacts.METHODS)]
    for row in found["rows"]:
        assert (row["model"], row["batch"], row["threads"]) == ("tiny", 3, 1)
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["runs"] >= 20
        assert 0 < row["start_s"] < 60
        assert 10 < row["rss_mb"] <= row["peak_mb"]
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["onnxruntime"]


def test_a_choice_of_explainers_is_kept_and_shown_beside_predict(command, tiny):
    method = artifacts.METHODS[-1]

    found = command("bench", tiny / "tiny" / "1", "--seconds", 0, "--methods", method)

    lines = found.stdout.splitlines()
    assert found.exit_code == 0
    assert [line.split()[1] for line in lines[2:]] == ["predict", method]
    assert lines[2].split()[-1] == "1.00"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("--methods", "guesswork"), "guesswork"), (("--batch", "0"), "batch"), (("--threads", "0"), "threads")],
)
def test_what_cannot_be_measured_is_refused_by_name(command, tiny, arguments, says):
    found = command("bench", tiny / "tiny" / "1", *arguments)

    assert found.exit_code == 2
    assert says in found.stderr


def test_a_damaged_artifact_is_bad_input(command, tiny):
    path = tiny / "tiny" / "1" / "weights.cwt"
    path.write_bytes(path.read_bytes()[:-1])

    found = command("bench", tiny / "tiny" / "1")

    assert found.exit_code == 2
    assert "weights.cwt" in found.stderr
