"""The sections of a recipe, each with its keys."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
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

from clearweight.exporter.findings import sentences
from clearweight.exporter.objective import TERMS
from clearweight.exporter.training import FineTuning

Dimension = Annotated[int, Field(gt=0)]
Configured = SerializeAsAny[BaseModel]


class Section(BaseModel):
    """Keys that are known, values that do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(Section):
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


class SourceSection(Section):
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


class PreprocessingSection(Section):
    """``(raw * scale - mean) / std``, per channel; part of the artifact, applied before every run.

    Attributes
    ----------
    resize : how pictures of another size than the model's are brought to it; None refuses them
    white : raw value of a white pixel in this data; None: 255 for bytes, unknown for floats
    """

    scale: PositiveFloat = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[PositiveFloat, ...] = ()
    resize: Literal["stretch", "crop"] | None = None
    white: PositiveFloat | None = Field(default=None, exclude_if=lambda value: value is None)


class DataSection(Section):
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


class ReferenceSection(Section):
    """How the reference is trained before it is compressed; left out, the weights are taken as they are."""

    fine_tune: FineTuning


def named(table: Mapping[str, Any], what: str) -> Any:
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
            raise ValueError(sentences(error, table[name].config_type, name)) from error

    return parse


class ObjectiveSection(Section):
    """What every fine-tuning step preserves."""

    terms: tuple[Annotated[Configured, BeforeValidator(named(TERMS, "term"))], ...] = Field(min_length=1)
    input_noise: NonNegativeFloat = 0.0


class FidelitySection(Section):
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


class RangeSection(Section):
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


class SearchSection(Section):
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


class MixedPrecisionSection(Section):
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


class CanarySection(Section):
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


class UnitSection(Section):
    """One channel of a layer, counted from 0; the layer as the canonical graph names it."""

    layer: str
    channel: NonNegativeInt


class ReportSection(Section):
    """What the report shows on request.

    Attributes
    ----------
    units : channels whose nine strongest calibration inputs are shown with their maps
    """

    units: tuple[UnitSection, ...] = Field(default=(), max_length=16)
