"""What an artifact says about itself: the records of ``manifest.json`` (SPEC.md section 4).

Plain frozen records; how they are spelt is ``manifest_bytes.py``, which of their values make sense
is ``manifest_rules.py``.
"""

from dataclasses import dataclass, field

from clearweight.artifact.record_form import OPTIONAL

FORMAT = "clearweight"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: Open Inference Protocol datatype, shape with -1 for the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Preprocessing:
    """How raw inputs become model inputs; ``preprocessing.apply`` runs it.

    ``x = (float32(raw) * scale - mean) / std``; mean and std per channel (axis 1), one number, or none.
    ``resize`` is how pictures were brought to the model's size before (``preprocessing.RESIZE``); None: they had it.
    ``white`` is the raw value of a white pixel, black being 0: 255 for bytes, 1 for the unit range; None: nobody said,
    and ``preprocessing.white`` knows it of UINT8 alone.
    """

    raw_datatype: str = "FP32"
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: str | None = field(default=None, metadata=OPTIONAL)
    white: float | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class FileEntry:
    """Size and SHA-256 of one file; ``device`` says whether a device needs it."""

    bytes: int
    sha256: str
    device: bool


@dataclass(frozen=True)
class Stage:
    """Size of one tensor after one stage of compression."""

    name: str
    bits_per_weight: float
    bytes: int


@dataclass(frozen=True)
class LedgerRow:
    """Where the bytes of one tensor went.

    ``parameters`` is how many of the reference's parameters it stands for: all its elements, unless the network was
    rebuilt. The scales of a quantized model stand for none, a convolution that lost filters for all it once had.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    nonzero: int
    layout: str
    walk: str
    bytes: int
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Ledger:
    """Where the bytes of ``weights.cwt`` went: rows and overhead add up to ``packed_bytes``."""

    reference_bytes: int
    packed_bytes: int
    overhead_bytes: int
    rows: tuple[LedgerRow, ...]


@dataclass(frozen=True)
class Verification:
    """What was compared with which result when an explain graph was exported.

    The last two are for graphs that differentiate a quantized model straight through: the mean cosine of their maps
    to the float model's, and the mean rank correlation with the quantized model's own occlusion.
    """

    samples: int
    targets: int
    cosine_to_float64: float
    q999_error_over_max: float
    cosine_to_torch: float | None
    q999_error_over_max_torch: float | None
    completeness_error_max: float | None
    frozen_map: str
    cosine_to_float_model: float | None = None
    spearman_to_own_occlusion: float | None = None


@dataclass(frozen=True)
class Explainer:
    """One explain graph of the artifact and what its maps mean.

    ``inputs`` are what the graph takes beside the model's own inputs and ``target``; ``explain_inputs`` makes them.
    ``steps`` is how many of them there are by default (path points, draws, masks), 1 for a single pass. ``settings``
    are the numbers that the graph was built with. ``map_shape`` begins with -1, the batch. ``prepacked`` False says
    that a runtime is faster if it leaves weights as they are when it loads the graph; None leaves it to the runtime.
    """

    file: str
    method: str
    target_rule: str
    sign: str
    units: str
    baseline: str
    inputs: tuple[str, ...]
    steps: int
    settings: dict[str, float]
    gradient_ste: bool
    resolution: str
    layer: str | None
    map_shape: tuple[int, ...]
    completeness: bool
    verification: Verification
    prepacked: bool | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Quality:
    """One model judged by itself: how often it is right, and how faithful its maps are to it.

    ``insertion_auc``, ``infidelity`` (relative, at the best scale) and ``max_sensitivity`` are means over inputs;
    ``randomization`` is the mean rank correlation of the maps with those of the same network once all weights are
    random.
    """

    accuracy: float | None
    deletion_auc: float | None
    spearman_to_own_occlusion: float | None
    insertion_auc: float | None = None
    infidelity: float | None = None
    max_sensitivity: float | None = None
    randomization: float | None = None


@dataclass(frozen=True)
class Summary:
    """A distribution in four numbers."""

    mean: float
    q05: float
    q50: float
    q95: float


@dataclass(frozen=True)
class Fidelity:
    """Whether the compressed explanations are near enough to the reference's.

    ``similarity`` is 1 - distance for every name in ``score.SCORES``. ``occlusion`` is the cosine similarity of the
    two models' occlusion maps, held against the same budget; for quantized models, whose gradient maps describe a
    surrogate.
    """

    explainer: str
    samples: int
    undefined: int
    similarity: dict[str, Summary]
    agreement: float
    accuracy_drop: float | None
    min_attribution_similarity: float
    max_accuracy_drop: float
    retrain_floor: float | None
    gap_closed: float | None
    passed: bool
    occlusion: Summary | None = None


@dataclass(frozen=True)
class IntegrityLimit:
    """How far a device may be from the stored canary answers: the runtime floor with margin.

    The last two are for occlusion maps, where the canaries hold them.
    """

    logits_atol: float
    map_cosine_min: float
    map_q999_max: float
    occlusion_cosine_min: float | None = None
    occlusion_q999_max: float | None = None


QUANTILE_LEVELS = (
    *(0.0, 0.01, 0.02),
    *(round(0.05 * step, 2) for step in range(1, 20)),
    *(0.96, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0),
)
"""Where a null distribution states its quantiles: even in the body, close together in the tail that limits rest on."""
LAGS = 5
OTHER = -1
"""Index of all classes that have no null of their own."""


@dataclass(frozen=True)
class NullDistribution:
    """One score on calibration data: quantiles at ``QUANTILE_LEVELS``, autocorrelation at lags 1 to ``LAGS``."""

    mean: float
    std: float
    quantiles: tuple[float, ...]
    autocorrelation: tuple[float, ...]
    runtime_floor: float
    samples: int
    undefined: int


@dataclass(frozen=True)
class ClassNull:
    """The alarm score on the calibration samples of one explained class; ``OTHER`` for the remaining ones together."""

    index: int
    samples: int
    mean: float
    std: float


@dataclass(frozen=True)
class Drift:
    """What each drift score looks like while nothing drifts; ``classes`` break down ``pooled_cosine``."""

    explainer: str
    scores: dict[str, NullDistribution]
    classes: tuple[ClassNull, ...] = ()


@dataclass(frozen=True)
class Canaries:
    """Where the probes came from: ``calibration``, ``file`` or ``synthetic``."""

    source: str
    count: int


@dataclass(frozen=True)
class Manifest:
    """Everything an artifact says about itself.

    ``files`` and ``manifest_sha256`` are filled by ``write_artifact``; a caller leaves them empty.
    """

    name: str
    version: str
    variant: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    ledger: Ledger
    reference_quality: Quality
    compressed_quality: Quality
    explainers: dict[str, Explainer]
    default_explainer: str | None
    fidelity: Fidelity | None
    integrity: IntegrityLimit
    drift: Drift | None
    canaries: Canaries
    splits: dict[str, str]
    environment: dict[str, str]
    files: dict[str, FileEntry] = field(default_factory=dict)
    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    manifest_sha256: str = ""
