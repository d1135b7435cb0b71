"""What a VJP rule is filed under: an operator in the version that fixed its meaning."""

from dataclasses import dataclass

import onnx

DEFAULT_DOMAIN = ""


@dataclass(frozen=True, order=True)
class OpKey:
    """One operator: domain, name, and the opset version since which it means what it means."""

    domain: str
    op_type: str
    since_version: int

    def __str__(self) -> str:
        scope = f"{self.domain}::" if self.domain else ""
        return f"{scope}{self.op_type}-{self.since_version}"


def op_key(domain: str, op_type: str, opset: int) -> OpKey:
    """Return the key of an operator as a model of this opset means it.

    An operator that onnx does not know (another domain) gets the opset itself as its version.
    """
    domain = DEFAULT_DOMAIN if domain == "ai.onnx" else domain
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return OpKey(domain, op_type, opset)
    return OpKey(domain, op_type, schema.since_version)
