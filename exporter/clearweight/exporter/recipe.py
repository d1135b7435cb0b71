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
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializeAsAny,
    ValidationError,
    model_validator,
)

from clearweight.exporter.compress import METHODS, KernelQuantizationConfig, LowRankConfig, UnifyWeightsConfig
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.objective import TERMS
from clearweight.exporter.training import FineTuning

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
# Steps after which a weight is made of other parameters.
_IN_PARTS = (LowRankConfig, KernelQuantizationConfig, UnifyWeightsConfig)
Dimension = Annotated[int, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(_Section):
    """The user's network.

    Attributes
    ----------
    callable : ``module:callable`` that returns a torch module
    weights : state dict as .safetensors, .npz or .pt; relative to the recipe
    input_shape : of one input, without the batch
    """

    callable: str
    arguments: dict[str, Any] = {}
    weights: Path | None = None
    input_shape: tuple[Dimension, ...] = Field(min_length=1)


class SourceSection(_Section):
    """Where labelled inputs come from: exactly one of ``npz``, ``idx``, ``image_folder``, ``callable``.

    Attributes
    ----------
    inputs, labels : array names inside the npz; with ``idx`` the two files
    """

    npz: Path | None = None
    idx: Path | None = None
    idx_labels: Path | None = None
    image_folder: Path | None = None
    callable: str | None = None
    arguments: dict[str, Any] = {}
    inputs: str = "x"
    labels: str = "y"

    @model_validator(mode="after")
    def _one_source(self) -> "SourceSection":
        given = [k for k in ("npz", "idx", "image_folder", "callable") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of npz, idx, image_folder, callable is expected, found {given or 'none'}"
            )
        if (self.idx is None) != (self.idx_labels is None):
            raise ValueError("idx and idx_labels belong together")
        return self


class PreprocessingSection(_Section):
    """``(raw * scale - mean) / std``, per channel; part of the artifact, applied before every run.

    Attributes
    ----------
    resize : how pictures of another size than the model's are brought to it; None refuses them
    """

    scale: PositiveFloat = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[PositiveFloat, ...] = ()
    resize: Literal["stretch", "crop"] | None = None


class DataSection(_Section):
    """Data and how it is cut.

    Attributes
    ----------
    source : cut into fitting, validation and calibration samples
    test : if given, accuracy is reported on it instead of on the validation part
    """

    source: SourceSection
    test: SourceSection | None = None
    preprocessing: PreprocessingSection = PreprocessingSection()
    validation: PositiveInt = 1000
    calibration: PositiveInt = 500


class ReferenceSection(_Section):
    """How the reference is trained before it is compressed; left out, the weights are taken as they are."""

    fine_tune: FineTuning


def _named(table: dict[str, Any], what: str) -> Any:
    """Build a validator for ``{name: settings}`` with the names of ``table``."""

    def parse(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError(f"expected one {what} as 'name: settings', found {value!r}")
        name, settings = next(iter(value.items()))
        if name not in table:
            raise ValueError(f"unknown {what} {name!r}; known: {', '.join(table)}")
        try:
            return table[name].config_type.model_validate(settings or {})
        except ValidationError as error:
            raise ValueError(_explain(error, table[name].config_type, name)) from error

    return parse


Configured = SerializeAsAny[BaseModel]


class ObjectiveSection(_Section):
    """What every fine-tuning step preserves."""

    terms: tuple[Annotated[Configured, BeforeValidator(_named(TERMS, "term"))], ...] = Field(min_length=1)
    input_noise: NonNegativeFloat = 0.0


class FidelitySection(_Section):
    """The budget that the compressed model must keep.

    Attributes
    ----------
    min_attribution_similarity : least mean cosine of the default explainer's maps to the reference's
    max_accuracy_drop : as a share, 0.01 is one point
    retrain_floor : train a second reference from another seed and report its similarity beside ours
    """

    min_attribution_similarity: float = Field(default=0.8, ge=-1.0, le=1.0)
    max_accuracy_drop: NonNegativeFloat = 0.01
    retrain_floor: bool = False


class RangeSection(_Section):
    """Values that a search may give a key: whole numbers where both ends are, ends included.

    Attributes
    ----------
    log : even in the logarithm
    """

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> "RangeSection":
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"low {self.low} and high {self.high} are no range")
        return self


class SearchSection(_Section):
    """A search for the strengths of the steps, inside the budget of ``fidelity`` and the limits given here.

    Attributes
    ----------
    ranges : ``METHOD.KEY`` of a step, or ``METHOD.KEY.PATTERN`` where the key holds patterns -> values to try
    trials : how many strengths are trained and measured
    processes : how many at the same time
    max_bytes : of the packed weights
    max_latency : time of a prediction over the reference's
    """

    ranges: dict[str, RangeSection] = Field(min_length=1)
    trials: PositiveInt = 20
    processes: PositiveInt = 1
    max_bytes: PositiveInt | None = None
    max_latency: PositiveFloat | None = None


class MixedPrecisionSection(_Section):
    """How bits are shared out among weights that are deployed in mixed precision: exactly one limit.

    Attributes
    ----------
    bits : a weight may take
    bits_per_weight : on average over all weights, scales included, before entropy coding
    max_distortion : estimated, summed over weights: nats of the answer, and ``attribution_share`` times the squared
        distance of unit maps
    statistic_samples : calibration inputs that the estimate looks at
    """

    bits: Annotated[tuple[Literal[4, 8, 16, 32], ...], Field(min_length=1)] = (4, 8, 16, 32)
    bits_per_weight: PositiveFloat | None = None
    max_distortion: PositiveFloat | None = None
    attribution_share: NonNegativeFloat = 1.0
    statistic_samples: PositiveInt = 256

    @model_validator(mode="after")
    def _one_limit(self) -> "MixedPrecisionSection":
        if (self.bits_per_weight is None) == (self.max_distortion is None):
            raise ValueError("exactly one of bits_per_weight and max_distortion is expected")
        return self


class CanarySection(_Section):
    """The probe inputs that travel with the artifact.

    Attributes
    ----------
    source : ``calibration`` (real inputs travel), ``file`` (an npz of your choice), ``synthetic`` (optimised)
    """

    source: Literal["calibration", "file", "synthetic"] = "calibration"
    count: Annotated[int, Field(ge=2, le=256)] = 16
    file: SourceSection | None = None

    @model_validator(mode="after")
    def _file_given(self) -> "CanarySection":
        if (self.source == "file") != (self.file is not None):
            raise ValueError("source 'file' and the key 'file' belong together")
        return self


class UnitSection(_Section):
    """One channel of a layer, counted from 0; the layer as the canonical graph names it."""

    layer: str
    channel: NonNegativeInt


class ReportSection(_Section):
    """What the report shows on request.

    Attributes
    ----------
    units : channels whose nine strongest calibration inputs are shown with their maps
    """

    units: tuple[UnitSection, ...] = Field(default=(), max_length=16)


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) != len(names):
        raise ValueError("the names are not distinct")
    return names


class Recipe(_Section):
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
    steps: tuple[Annotated[Configured, BeforeValidator(_named(METHODS, "method"))], ...] = Field(min_length=1)
    deploy: Literal["float32", "int8", "mixed"] = "float32"
    mixed_precision: MixedPrecisionSection | None = None
    coder: Literal["huffman", "range"] = "huffman"
    explainers: Annotated[tuple[str, ...], AfterValidator(_unique), Field(min_length=1)] = (
        "gradient",
        "input_x_gradient",
        "gradcam",
    )
    default_explainer: str = "input_x_gradient"
    explainer_settings: dict[str, dict[str, float]] = {}
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


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known where ``path`` points."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Turn pydantic's findings into sentences that name the key."""
    lines = []
    for finding in error.errors(include_url=False, include_context=False):
        where = ".".join(str(p) for p in ([prefix] if prefix else []) + list(finding["loc"]))
        if finding["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(model, finding["loc"][:-1]))
            place = where.rpartition(".")[0] or "the recipe"
            lines.append(f"Unknown key {finding['loc'][-1]!r} in {place}. Known keys: {known}.")
        elif finding["type"] == "missing":
            lines.append(f"Key {where!r} is missing.")
        elif finding["type"] == "value_error":
            lines.append(f"{where}: {finding['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{where}: {finding['msg']}, found {finding['input']!r}.")
    return " ".join(lines)


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
        raise RecipeError(f"Recipe {origin!r}: {_explain(error, Recipe)}") from error


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
            elif isinstance(value, _Section):
                changed[name] = walk(value)
        return section.model_copy(update=changed)

    result = walk(recipe)
    assert isinstance(result, Recipe)  # noqa: S101 - model_copy keeps the type; this tells the type checker
    return result
