from pathlib import Path

from clearweight.exporter.autodiff import RULES
from tests.exporter.autodiff.operator_table import PATH, formula, table

ROOT = Path(__file__).parents[3]


def test_the_document_is_what_the_code_says():
    assert (ROOT / PATH).read_text(encoding="utf-8") == table(), "stale: run `make docs`"


def test_every_rule_states_its_formula():
    for key, rule in RULES.items():
        assert formula(rule).startswith("`"), key
        assert any(name in formula(rule) for name in ("dx", "da", "dq", "d op(a)")), key
