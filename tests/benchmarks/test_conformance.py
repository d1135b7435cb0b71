from benchmarks.conformance import table
from tests.conformance.cases import CASES


def test_the_table_counts_only_what_every_server_could_be_asked():
    everything = dict.fromkeys((case.number for case in CASES), True)
    lines = table({"ours": everything, "peer 1.0": everything | {"1": False, "2": None}}).splitlines()

    assert lines[0] == "| Case | | ours | peer 1.0 |"
    assert "| yes | **no** |" in next(line for line in lines if line.startswith("| 1 |"))
    assert "| yes | - |" in next(line for line in lines if line.startswith("| 2 |"))
    asked = len(CASES) - 1
    assert f"{asked} of {asked} | {asked - 1} of {asked} |" in lines[-1]
