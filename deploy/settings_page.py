"""Write the page of all settings, docs/settings.md, from the service's settings and what is said beneath each.

Usage: python deploy/settings_page.py (or `make chart`). A test compares the committed page with this.
"""

import ast
import inspect
from itertools import pairwise
from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from clearweight.service.settings import Settings

PATH = Path(__file__).parents[1] / "docs" / "settings.md"
SECTIONS = {
    "models": "Models",
    "host": "Addresses",
    "threads": "Sessions",
    "predict_workers": "Queues and batching",
    "max_body_bytes": "Limits of one request",
    "low_fidelity": "Fidelity, integrity, drift",
    "reference_url": "A reference on another machine",
    "tokens": "Tokens and the admin port",
    "tls_cert": "TLS",
    "max_connections": "Connections",
    "log_level": "Logs and traces",
    "drain_seconds": "Shutdown",
}
"""First setting of a section -> its heading."""
_HEAD = """# Settings of the service

Written by `make chart` from the code; a test fails when it is stale.

The setting `max_batch` is the environment variable `CLEARWEIGHT_MAX_BATCH`. The commonest are options of
`clearweight serve` as well (`--http-port`), and an option wins over the environment. Those that the
[chart](../helm/README.md) does not manage itself stand there under `settings`. What they are for is told in
[serving](serving.md), [drift](drift.md) and [security](security.md).
"""


def remarks() -> dict[str, str]:
    """Return what the source says beneath each setting."""
    stated = ast.parse(inspect.getsource(Settings)).body[0]
    found = {}
    for setting, remark in pairwise(ast.iter_child_nodes(stated)):
        match setting, remark:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found[name] = " ".join(said.split())
    return found


def page() -> str:
    """Return the page with the settings of this checkout."""
    said, lines = remarks(), [_HEAD]
    for name, field in Settings.model_fields.items():
        if name in SECTIONS:
            lines.append(f"\n## {SECTIONS[name]}\n\n| setting | default | |\n|---|---|---|\n")
        lines.append(f"| `{name}` | {_shown(field)} | {said[name]} |\n")
    return "".join(lines)


def _shown(field: FieldInfo) -> str:
    if field.is_required():
        return "the folder given to `serve`"
    default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    if default in (None, "", (), {}):
        return "none"
    others = [
        choice for choice in get_args(field.annotation) if isinstance(choice, str) and choice != default
    ]
    return ", or ".join(f"`{value}`" for value in (_written(default), *others))


def _written(value: bool | float | str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
