import grpc
import httpx
import pytest

from benchmarks.conformance import Verdict, instead_of_expected, table
from tests.conformance.cases import CASES
from tests.conformance.messages import fails, outputs, refused


def test_the_table_counts_only_what_every_server_could_be_asked():
    everything = dict.fromkeys((case.number for case in CASES), Verdict(True))
    peer = everything | {
        "1": Verdict(False, "422"),
        "2": Verdict(None),
        "2c": Verdict(False),
        "4": Verdict(False),
        "28b": Verdict(False),
    }
    lines = table({"ours": everything, "peer 1.0": peer}).splitlines()

    def row(number: str) -> str:
        return next(line for line in lines if line.startswith(f"| {number} |"))

    assert lines[0] == "| Case | | ours | peer 1.0 |"
    assert row("1").endswith("| yes | **no** 422 |")
    assert row("2").endswith("| yes | - |")
    assert row("4").endswith("| yes | **no** |")
    asked = len(CASES) - 1
    assert f"{asked} of {asked} | {asked - 4} of {asked} |" in lines[-2]
    # 26 to 40, 49 and 50 are extensions and V1; 2c, 7b, 23c and 38b are choices.
    beyond = {str(number) for number in (*range(26, 41), 49, 50)}
    required = sum(
        case.number.rstrip("bcd") not in beyond and case.number not in {"2", "2c", "7b", "23c", "38b"}
        for case in CASES
    )
    assert f"{required} of {required} | {required - 2} of {required} |" in lines[-1]


def test_what_a_server_answered_instead_is_read_from_the_suite_s_own_messages():
    def message(check) -> str:
        with pytest.raises(AssertionError) as failure:
            check()
        return str(failure.value)

    class Refusal(grpc.RpcError):
        def code(self):
            return grpc.StatusCode.INTERNAL

        def details(self):
            return "two\nlines"

    def call():
        raise Refusal

    odd = httpx.Response(422, json={"detail": [{"msg": "a, expected b\nc"}]})
    assert instead_of_expected(message(lambda: refused(odd, 400))) == "422"
    assert instead_of_expected(message(lambda: outputs(httpx.Response(500, text="Internal")))) == "500"
    assert instead_of_expected(message(lambda: fails(call, grpc.StatusCode.INVALID_ARGUMENT))) == "INTERNAL"


@pytest.mark.parametrize("text", ["", "200 and 307", "the body is {}", "FP32 is not expected", "[Errno 104]"])
def test_other_failures_say_nothing_of_what_was_answered(text):
    assert not instead_of_expected(text)
