"""Writes docs/operators.md from the tables of rules and of test cases: ``make docs``."""

import inspect
from collections import Counter
from itertools import groupby
from pathlib import Path

from clearweight.exporter.autodiff import MAX_OPSET, MIN_OPSET, NON_DIFFERENTIABLE, RULES, UNSUPPORTED
from clearweight.exporter.autodiff.walker import EveryOutput, Rule
from tests.exporter.autodiff.cases import CASES, SPECIAL_POINTS
from tests.exporter.autodiff.quantization_cases import QUANTIZATION_CASES

PATH = Path("docs/operators.md")
CODE, TESTS = "../exporter/clearweight/exporter/autodiff", "../tests/exporter/autodiff"

HEAD = f"""# Operators

Written by `make docs` from the code; a test fails when it is stale.

A map needs the gradient of one logit, so every operator between the input and the logits needs a VJP rule: what it
does to the gradient that arrives at its output. The tables list the rules, for the operators' versions in force at
opset {MIN_OPSET} to {MAX_OPSET}, the newest that ONNX Runtime 1.31 runs. A model of opset 7 to 15 is converted
to opset 17 first. What a rule emits are operators of the standard domain, at the model's own opset.

In the formulas `dy` is the gradient at the output, `dx` the one at the input `x`. Where inputs were broadcast, the
gradient is summed back to the shape of each input, once, by the [walker]({CODE}/walker.py).

**Cases** counts the [gradient checks]({TESTS}/test_rules.py) of the operator over all versions: each compares the
rule, in float64 on onnx's reference evaluator, with central differences, ONNX Runtime in float32 with that, and where
torch has the operator, torch's autograd. **Kinks** counts the cases at ties, zeros, bounds and in saturation, where
only a convention says what the derivative is; torch's is followed. Whole [networks]({TESTS}/networks.py) are
[compared]({TESTS}/test_networks.py) with torch's autograd, too: MobileNetV2 and V3, EfficientNet, ResNet,
ResNeXt, DenseNet, SqueezeNet, a U-Net, ConvNeXt, ViT, a transformer encoder, 1-D CNN, TCN and a gated MLP.
"""

CONVENTIONS = """## Conventions at kinks

- `Relu`, `Abs`, `Sign`-like steps: 0 at 0. `LeakyRelu`, `PRelu`, `Elu`, `Selu`: the lower branch's slope at 0.
- `Clip` leaves both bounds out, as torch's `relu6` and `hardtanh` do (its `clamp`, which becomes the same operator in
  ONNX, includes them); so does `HardSigmoid`.
- `MaxPool` gives the gradient to the first maximum of each window, as torch does, ties or not.
- `Max`, `Min`, `ReduceMax`, `ReduceMin` and `GlobalMaxPool` share it equally among ties, as torch's `maximum` and
  `amax` do. (torch's own `AdaptiveMaxPool` takes the first maximum; torch.onnx writes it as `ReduceMax`.)
- `ReduceL2` has the gradient 0 where the norm is 0.
- `QuantizeLinear` is passed straight through where nothing was clipped, and not at all where it was. The map of such
  a model is that of its fake-quantised surrogate.
"""


def main() -> None:
    PATH.write_text(table(), encoding="utf-8")


def table() -> str:
    """The whole document."""
    parts = [HEAD]
    cases, kinks = Counter(case.op for case in CASES), Counter(case.op for case in SPECIAL_POINTS)
    for case in QUANTIZATION_CASES:
        cases.update({key.op_type for key in case.keys})
    by_module = sorted(operators(), key=lambda row: (module_of(row[1]), row[0]))
    for module, rows in groupby(by_module, key=lambda row: module_of(row[1])):
        parts.append(f"## {module.capitalize()}\n\nRules in [{module}.py]({CODE}/rules/{module}.py).\n")
        lines = ["| operator | versions | rule | formula | cases | kinks |", "|---|---|---|---|---:|---:|"]
        for op, rule in rows:
            versions = ", ".join(str(key.since_version) for key in sorted(RULES) if key.op_type == op)
            counts = f"{cases[op]} | {kinks[op] or ''}"
            lines.append(f"| {op} | {versions} | `{plain(rule).__name__}` | {formula(rule)} | {counts} |")
        parts.append("\n".join(lines) + "\n")
    parts += [CONVENTIONS, stopping(), unsupported()]
    return "\n".join(parts)


def operators() -> list[tuple[str, Rule]]:
    """Each operator once, with the rule of its versions."""
    return list({key.op_type: (key.op_type, rule) for key, rule in RULES.items()}.values())


def plain(rule: Rule):
    return rule.rule if isinstance(rule, EveryOutput) else rule


def module_of(rule: Rule) -> str:
    return plain(rule).__module__.rpartition(".")[2]


def formula(rule: Rule) -> str:
    """The first line of the rule's docstring."""
    first = inspect.getdoc(plain(rule)).splitlines()[0].removesuffix(".")
    return first.replace("``", "`").replace("|", "\\|")


def stopping() -> str:
    names = sorted({key.op_type for key in NON_DIFFERENTIABLE})
    return (
        "## Operators that stop the gradient\n\nWhole numbers, truth values, steps and what is drawn at random: the "
        "derivative is zero or does not exist.\n\n" + ", ".join(f"`{name}`" for name in names) + ".\n"
    )


def unsupported() -> str:
    rows = [f"| {op} | {why} |" for op, why in sorted(UNSUPPORTED.items())]
    return (
        "## Declared unsupported\n\nOn the path from input to logits they are an error that names the node, as is "
        "every operator that is in no table here.\nOcclusion and RISE need no gradient and explain such models all "
        "the same.\n\n"
        "| operator | why |\n|---|---|\n" + "\n".join(rows) + "\n"
    )


if __name__ == "__main__":
    main()
