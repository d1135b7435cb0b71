"""What the image installs from elsewhere: the requirements of the service, one per line, read from pyproject.toml."""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
sys.stdout.write("\n".join([*project["dependencies"], *project["optional-dependencies"]["service"]]) + "\n")
