"""The digits task made small enough for the default suite: a narrow CNN, a few epochs, every step."""

from pathlib import Path
from typing import Any

import yaml

from clearweight.exporter.recipe import Recipe, parse_recipe

FINE_TUNE = {"epochs": 6, "learning_rate": 0.003, "batch_size": 64}


def content(**changes: Any) -> dict[str, Any]:
    """Return a recipe as its YAML would be read; ``changes`` replace whole sections."""
    base: dict[str, Any] = {
        "name": "digits",
        "model": {
            "callable": "clearweight.exporter.digits:network",
            "arguments": {"width": 6},
            "input_shape": [1, 8, 8],
        },
        "data": {
            "source": {"callable": "clearweight.exporter.digits:images"},
            "preprocessing": {"scale": 0.0625},
            "validation": 300,
            "calibration": 150,
        },
        "reference": {"fine_tune": FINE_TUNE | {"epochs": 12, "learning_rate": 0.01}},
        "objective": {
            "input_noise": 0.1,
            "terms": [{"task": {"weight": 0.1}}, {"distillation": {}}, {"input_matching": {}}],
        },
        "steps": [
            {
                "prune": {
                    "density": 0.3,
                    "criterion": "first_order",
                    "update_every": 10,
                    "fine_tune": FINE_TUNE,
                }
            },
            {"share_weights": {"bits": 5, "fine_tune": FINE_TUNE | {"epochs": 2, "learning_rate": 0.0003}}},
            {"half_precision": {}},
        ],
        "fidelity": {"min_attribution_similarity": 0.8, "max_accuracy_drop": 0.05},
    }
    return base | changes


def recipe(**changes: Any) -> Recipe:
    """Return the recipe checked and ready."""
    return parse_recipe(yaml.safe_dump(content(**changes)), "small_digits.yaml")


def write(folder: Path, **changes: Any) -> Path:
    """Write the recipe into ``folder`` and return its path."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content(**changes)), encoding="utf-8")
    return path
