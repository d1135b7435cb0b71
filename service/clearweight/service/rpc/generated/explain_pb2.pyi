from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tensor(_message.Message):
    __slots__ = ("name", "datatype", "shape", "raw")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    name: str
    datatype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    raw: bytes
    def __init__(self, name: _Optional[str] = ..., datatype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., raw: _Optional[bytes] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("model", "version", "id", "inputs", "outputs", "method", "target", "steps", "baseline", "seed", "preprocess", "classification", "picture", "resize", "pixels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATION_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    id: str
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    method: str
    target: _containers.RepeatedScalarFieldContainer[int]
    steps: int
    baseline: str
    seed: int
    preprocess: bool
    classification: int
    picture: str
    resize: str
    pixels: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., id: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ..., method: _Optional[str] = ..., target: _Optional[_Iterable[int]] = ..., steps: _Optional[int] = ..., baseline: _Optional[str] = ..., seed: _Optional[int] = ..., preprocess: _Optional[bool] = ..., classification: _Optional[int] = ..., picture: _Optional[str] = ..., resize: _Optional[str] = ..., pixels: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("model", "version", "id", "outputs", "method", "baseline", "steps", "seed", "gradient_ste", "explainer_sha256", "model_sha256", "resolution", "fidelity", "drift_state", "error")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_STE_FIELD_NUMBER: _ClassVar[int]
    EXPLAINER_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    FIDELITY_FIELD_NUMBER: _ClassVar[int]
    DRIFT_STATE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    id: str
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    method: str
    baseline: str
    steps: int
    seed: int
    gradient_ste: bool
    explainer_sha256: str
    model_sha256: str
    resolution: str
    fidelity: str
    drift_state: str
    error: Error
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., id: _Optional[str] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., method: _Optional[str] = ..., baseline: _Optional[str] = ..., steps: _Optional[int] = ..., seed: _Optional[int] = ..., gradient_ste: _Optional[bool] = ..., explainer_sha256: _Optional[str] = ..., model_sha256: _Optional[str] = ..., resolution: _Optional[str] = ..., fidelity: _Optional[str] = ..., drift_state: _Optional[str] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class DriftRequest(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class DriftResponse(_message.Message):
    __slots__ = ("model", "version", "ready", "reason", "fidelity", "integrity", "drift")
    class Fidelity(_message.Message):
        __slots__ = ("state", "reason", "cosine", "min_attribution_similarity", "accuracy_drop", "max_accuracy_drop", "retrain_floor", "canary_cosine", "canary_bound")
        STATE_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        COSINE_FIELD_NUMBER: _ClassVar[int]
        MIN_ATTRIBUTION_SIMILARITY_FIELD_NUMBER: _ClassVar[int]
        ACCURACY_DROP_FIELD_NUMBER: _ClassVar[int]
        MAX_ACCURACY_DROP_FIELD_NUMBER: _ClassVar[int]
        RETRAIN_FLOOR_FIELD_NUMBER: _ClassVar[int]
        CANARY_COSINE_FIELD_NUMBER: _ClassVar[int]
        CANARY_BOUND_FIELD_NUMBER: _ClassVar[int]
        state: str
        reason: str
        cosine: float
        min_attribution_similarity: float
        accuracy_drop: float
        max_accuracy_drop: float
        retrain_floor: float
        canary_cosine: float
        canary_bound: float
        def __init__(self, state: _Optional[str] = ..., reason: _Optional[str] = ..., cosine: _Optional[float] = ..., min_attribution_similarity: _Optional[float] = ..., accuracy_drop: _Optional[float] = ..., max_accuracy_drop: _Optional[float] = ..., retrain_floor: _Optional[float] = ..., canary_cosine: _Optional[float] = ..., canary_bound: _Optional[float] = ...) -> None: ...
    class Integrity(_message.Message):
        __slots__ = ("state", "reason", "canaries", "logits_error", "logits_atol", "map_cosine", "map_cosine_min", "map_q999", "map_q999_max")
        STATE_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        CANARIES_FIELD_NUMBER: _ClassVar[int]
        LOGITS_ERROR_FIELD_NUMBER: _ClassVar[int]
        LOGITS_ATOL_FIELD_NUMBER: _ClassVar[int]
        MAP_COSINE_FIELD_NUMBER: _ClassVar[int]
        MAP_COSINE_MIN_FIELD_NUMBER: _ClassVar[int]
        MAP_Q999_FIELD_NUMBER: _ClassVar[int]
        MAP_Q999_MAX_FIELD_NUMBER: _ClassVar[int]
        state: str
        reason: str
        canaries: int
        logits_error: float
        logits_atol: float
        map_cosine: float
        map_cosine_min: float
        map_q999: float
        map_q999_max: float
        def __init__(self, state: _Optional[str] = ..., reason: _Optional[str] = ..., canaries: _Optional[int] = ..., logits_error: _Optional[float] = ..., logits_atol: _Optional[float] = ..., map_cosine: _Optional[float] = ..., map_cosine_min: _Optional[float] = ..., map_q999: _Optional[float] = ..., map_q999_max: _Optional[float] = ...) -> None: ...
    class Series(_message.Message):
        __slots__ = ("metric", "detector", "statistic", "warning_limit", "limit", "state", "alarms")
        METRIC_FIELD_NUMBER: _ClassVar[int]
        DETECTOR_FIELD_NUMBER: _ClassVar[int]
        STATISTIC_FIELD_NUMBER: _ClassVar[int]
        WARNING_LIMIT_FIELD_NUMBER: _ClassVar[int]
        LIMIT_FIELD_NUMBER: _ClassVar[int]
        STATE_FIELD_NUMBER: _ClassVar[int]
        ALARMS_FIELD_NUMBER: _ClassVar[int]
        metric: str
        detector: str
        statistic: float
        warning_limit: float
        limit: float
        state: str
        alarms: int
        def __init__(self, metric: _Optional[str] = ..., detector: _Optional[str] = ..., statistic: _Optional[float] = ..., warning_limit: _Optional[float] = ..., limit: _Optional[float] = ..., state: _Optional[str] = ..., alarms: _Optional[int] = ...) -> None: ...
    class Drift(_message.Message):
        __slots__ = ("state", "reason", "source", "share", "compared", "undefined", "disagreements", "sampled_out", "dropped", "comparisons_per_second", "false_alarm_interval_days", "last_sample_timestamp_seconds", "series")
        STATE_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        SOURCE_FIELD_NUMBER: _ClassVar[int]
        SHARE_FIELD_NUMBER: _ClassVar[int]
        COMPARED_FIELD_NUMBER: _ClassVar[int]
        UNDEFINED_FIELD_NUMBER: _ClassVar[int]
        DISAGREEMENTS_FIELD_NUMBER: _ClassVar[int]
        SAMPLED_OUT_FIELD_NUMBER: _ClassVar[int]
        DROPPED_FIELD_NUMBER: _ClassVar[int]
        COMPARISONS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
        FALSE_ALARM_INTERVAL_DAYS_FIELD_NUMBER: _ClassVar[int]
        LAST_SAMPLE_TIMESTAMP_SECONDS_FIELD_NUMBER: _ClassVar[int]
        SERIES_FIELD_NUMBER: _ClassVar[int]
        state: str
        reason: str
        source: str
        share: float
        compared: int
        undefined: int
        disagreements: int
        sampled_out: int
        dropped: int
        comparisons_per_second: float
        false_alarm_interval_days: float
        last_sample_timestamp_seconds: float
        series: _containers.RepeatedCompositeFieldContainer[DriftResponse.Series]
        def __init__(self, state: _Optional[str] = ..., reason: _Optional[str] = ..., source: _Optional[str] = ..., share: _Optional[float] = ..., compared: _Optional[int] = ..., undefined: _Optional[int] = ..., disagreements: _Optional[int] = ..., sampled_out: _Optional[int] = ..., dropped: _Optional[int] = ..., comparisons_per_second: _Optional[float] = ..., false_alarm_interval_days: _Optional[float] = ..., last_sample_timestamp_seconds: _Optional[float] = ..., series: _Optional[_Iterable[_Union[DriftResponse.Series, _Mapping]]] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIDELITY_FIELD_NUMBER: _ClassVar[int]
    INTEGRITY_FIELD_NUMBER: _ClassVar[int]
    DRIFT_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    ready: bool
    reason: str
    fidelity: DriftResponse.Fidelity
    integrity: DriftResponse.Integrity
    drift: DriftResponse.Drift
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., ready: _Optional[bool] = ..., reason: _Optional[str] = ..., fidelity: _Optional[_Union[DriftResponse.Fidelity, _Mapping]] = ..., integrity: _Optional[_Union[DriftResponse.Integrity, _Mapping]] = ..., drift: _Optional[_Union[DriftResponse.Drift, _Mapping]] = ...) -> None: ...
