import subprocess
import sys
from pathlib import Path

import clearweight.artifact


def test_every_public_name_can_be_imported():
    assert len(clearweight.artifact.__all__) == len(set(clearweight.artifact.__all__))
    for name in clearweight.artifact.__all__:
        assert hasattr(clearweight.artifact, name), name


def test_package_is_marked_as_typed():
    assert Path(clearweight.artifact.__file__).with_name("py.typed").is_file()


def test_importing_the_format_loads_neither_torch_nor_onnx():
    code = "import sys, clearweight.artifact; print({'torch', 'onnx', 'onnxruntime', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"
