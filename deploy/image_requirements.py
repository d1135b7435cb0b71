"""What the image installs from elsewhere, one per line, read from pyproject.toml: all that a setting can ask for."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
extras = [
    line for extra in ("service", "sign", "tracing") for line in project["optional-dependencies"][extra]
]
sys.stdout.write("\n".join([*project["dependencies"], *extras]) + "\n")
