"""How an engine runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.slot import LOW_FIDELITY
from clearweight.service.core.types import Limits
from clearweight.service.core.weights import MEMORY
from clearweight.service.drift.remote_options import RemoteOptions

ON_ALARM = ("annotate", "withhold_explanation", "rollback")
"""What to do with a model in drift alarm: say so in every explanation, give none, or go back to the version before."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs; every default suits a small device.

    ``fixed_batch`` plans every session for that many rows, which is fastest on a device that always asks for as many
    (1 on most); other requests are run in pieces. 0 plans for any number.

    ``memory`` is "fast", every session with its own copy of the parameters, or "saving", one copy for all of a model.
    ``all_explainers`` opens every explainer at load instead of at its first use, for an even latency.

    ``load`` names the models to load at the start, None for all; the others wait for ``Engine.load``.
    ``watch_seconds`` is the pause between looks at the folder for versions that came, changed or went, 0 for none.

    ``public_key`` (Ed25519, PEM) is whose signature every artifact must carry, None for no one's.

    ``shadow`` is the share of rows also run through the uncompressed reference (0 switches it off),
    ``shadow_cpu_share`` what share of one core that may take. ``integrity_interval`` is seconds between self-tests
    after the one at load, 0 for none. ``false_alarm_interval_days`` is for all drift charts of the device together.

    ``on_alarm`` says what happens to a model in drift alarm, ``on_alarm_of`` to single ones by name. ``state_dir``
    keeps the charts over restarts. ``worst_samples`` is how many inputs of the largest distance each model keeps in
    memory, 0 for none. ``reference`` is where the reference is served, None for beside the artifact.
    """

    threads: int = 1
    fixed_batch: int = 0
    memory: str = "fast"
    all_explainers: bool = False
    low_fidelity: str = "refuse"
    public_key: bytes | None = None
    load: tuple[str, ...] | None = None
    watch_seconds: float = 0.0
    integrity_interval: float = 0.0
    shadow: float = 0.0
    shadow_queue: int = 64
    shadow_cpu_share: float = 0.02
    shadow_seed: int = 0
    false_alarm_interval_days: float = 30.0
    on_alarm: str = "annotate"
    on_alarm_of: Mapping[str, str] = field(default_factory=dict)
    state_dir: Path | None = None
    worst_samples: int = 0
    reference: RemoteOptions | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.low_fidelity not in LOW_FIDELITY:
            raise InvalidRequestError(
                f"low_fidelity is {self.low_fidelity!r}, expected one of {LOW_FIDELITY}."
            )
        if self.memory not in MEMORY:
            raise InvalidRequestError(f"memory is {self.memory!r}, expected one of {tuple(MEMORY)}.")
        for policy in (self.on_alarm, *self.on_alarm_of.values()):
            if policy not in ON_ALARM:
                raise InvalidRequestError(f"on_alarm is {policy!r}, expected one of {ON_ALARM}.")
        if not 0.0 <= self.shadow <= 1.0 or not 0.0 < self.shadow_cpu_share <= 1.0:
            raise InvalidRequestError(
                f"shadow is {self.shadow} and shadow_cpu_share {self.shadow_cpu_share}, expected shares up to 1."
            )

    def policy(self, model: str) -> str:
        """Return what happens to this model in drift alarm."""
        return self.on_alarm_of.get(model, self.on_alarm)
