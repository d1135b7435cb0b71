"""Recipes: what to export, as YAML, checked before any work begins.

A key that is not known, a value of the wrong kind or a missing key is an error that names the key and its place.
Steps and terms are written by their literature names, one mapping each::

    steps:
      - prune: {density: 0.08, fine_tune: {epochs: 10}}
      - share_weights: {bits: 5}
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from clearweight.exporter.compress import METHODS, KernelQuantizationConfig, LowRankConfig, UnifyWeightsConfig
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.findings import sentences
from clearweight.exporter.sections import (
    CanarySection,
    Configured,
    DataSection,
    FidelitySection,
    MixedPrecisionSection,
    ModelSection,
    ObjectiveSection,
    ReferenceSection,
    ReportSection,
    SearchSection,
    Section,
    named,
)

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
# Steps after which a weight is made of other parameters.
_IN_PARTS = (LowRankConfig, KernelQuantizationConfig, UnifyWeightsConfig)


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("the names are not distinct")
    return names


class Recipe(Section):
    """Everything that `pipeline.export` needs."""

    name: str = Field(pattern=NAME)
    version: str = Field(default="1", pattern=r"^[0-9]{1,9}$")
    seed: NonNegativeInt = 0
    threads: PositiveInt = 1
    accelerator: Literal["cpu", "cuda", "auto"] = "cpu"
    model: ModelSection
    data: DataSection
    labels: Annotated[tuple[str, ...], AfterValidator(_unique)] = ()
    reference: ReferenceSection | None = None
    objective: ObjectiveSection
    steps: tuple[Annotated[Configured, BeforeValidator(named(METHODS, "method"))], ...] = Field(min_length=1)
    deploy: Literal["float32", "int8", "mixed"] = "float32"
    mixed_precision: MixedPrecisionSection | None = None
    coder: Literal["huffman", "range"] = "huffman"
    explainers: Annotated[tuple[str, ...], AfterValidator(_unique), Field(min_length=1)] = (
        "gradient",
        "input_x_gradient",
        "gradcam",
    )
    default_explainer: str = "input_x_gradient"
    explainer_settings: dict[str, dict[str, float]] = Field(default_factory=dict)
    feature_layer: str | None = None
    device_profile: Path | None = None
    fidelity: FidelitySection = FidelitySection()
    search: SearchSection | None = None
    canaries: CanarySection = CanarySection()
    report: ReportSection = ReportSection()

    @model_validator(mode="after")
    def _mixed_precision_given(self) -> "Recipe":
        if (self.deploy == "mixed") != (self.mixed_precision is not None):
            raise ValueError("deploy 'mixed' and the key 'mixed_precision' belong together")
        if self.deploy == "mixed" and any(isinstance(step, _IN_PARTS) for step in self.steps):
            raise ValueError(
                "deploy 'mixed' does not know what the parts of a weight do that low_rank, kernel_quantization and "
                "unify_weights make: deploy float32 or int8"
            )
        return self

    @model_validator(mode="after")
    def _default_among_explainers(self) -> "Recipe":
        if self.default_explainer not in self.explainers:
            raise ValueError(f"default_explainer {self.default_explainer!r} is not among {self.explainers}")
        return self


def parse_recipe(text: str, origin: str) -> Recipe:
    """Parse and check a recipe.

    Raises
    ------
    RecipeError
        It is not YAML, or a key or value is wrong; the message names the key.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"Recipe {origin!r} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"Recipe {origin!r} holds {type(content).__name__}, expected a mapping of keys.")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"Recipe {origin!r}: {sentences(error, Recipe)}") from error


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; paths inside it are taken relative to its folder.

    Raises
    ------
    RecipeError
        The file cannot be read, or see `parse_recipe`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Recipe {str(path)!r} cannot be read: {error}") from error
    return rooted(parse_recipe(text, str(path)), path.parent)


def rooted(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with its relative paths taken from ``folder``."""

    def walk(section: BaseModel) -> BaseModel:
        changed: dict[str, Any] = {}
        for name in type(section).model_fields:
            value = getattr(section, name)
            if isinstance(value, Path):
                changed[name] = folder / value
            elif isinstance(value, Section):
                changed[name] = walk(value)
        return section.model_copy(update=changed)

    result = walk(recipe)
    assert isinstance(result, Recipe)  # noqa: S101 - model_copy keeps the type; this tells the type checker
    return result
