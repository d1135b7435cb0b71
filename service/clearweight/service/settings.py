"""Settings of the server, from arguments and from the environment (prefix ``CLEARWEIGHT_``)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from clearweight.service.access import Access, TokenSet
from clearweight.service.core.dataplane import PlaneOptions
from clearweight.service.core.errors import LoadError
from clearweight.service.core.lane import LaneOptions
from clearweight.service.core.options import EngineOptions
from clearweight.service.core.types import Limits
from clearweight.service.drift.remote_options import RemoteOptions
from clearweight.service.tls import Tls

if TYPE_CHECKING:
    from clearweight.service.tracing import Tracing

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Settings(BaseSettings):
    """All of them; ``CLEARWEIGHT_HTTP_PORT=0`` in the environment is ``http_port=0`` here."""

    model_config = SettingsConfigDict(env_prefix="CLEARWEIGHT_", extra="forbid", frozen=True)

    models: Path
    """An artifact, the versions of a model, or a folder of models."""
    load: str = "*"
    """Models to load at the start, their names with commas between; "*" for all, nothing for none."""
    watch_seconds: float = Field(default=0.0, ge=0.0)
    """Look at the folder this often and follow what comes, changes and goes; 0 never does."""
    require_signature: Path | None = None
    """Public key (Ed25519, PEM): an artifact that its owner did not sign is not loaded. None loads unsigned ones."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    http_port: int = Field(default=8080, ge=0, le=65535)
    """REST and metrics; 0 takes a free port."""
    grpc_port: int = Field(default=8081, ge=0, le=65535)
    """gRPC; 0 takes a free port."""
    threads: int = Field(default=1, ge=1)
    """ONNX Runtime threads per run."""
    fixed_batch: int = Field(default=0, ge=0)
    """Plan sessions for this many rows, and run other requests in pieces; 0 plans for any number."""
    memory: Literal["fast", "saving"] = "fast"
    """Every session with its own copy of the parameters, or one copy for all sessions of a model, at slower runs."""
    all_explainers: bool = False
    """Open every explainer at load; else all but the default one at their first use."""
    predict_workers: int = Field(default=2, ge=1)
    """Predict runs at a time, as far as there are cores for them."""
    predict_queue: int = Field(default=64, ge=0)
    """Predict requests of one model that may wait; one more is refused with 429."""
    predict_queue_timeout: float = Field(default=5.0, gt=0.0)
    """Seconds that one may wait for a thread; then it is refused with 429, and never computed."""
    explain_workers: int = Field(default=1, ge=1)
    """Explain runs at a time, as far as there are cores for them."""
    explain_queue: int = Field(default=16, ge=0)
    """Explain requests of one model that may wait."""
    explain_queue_timeout: float = Field(default=30.0, gt=0.0)
    """Seconds that one may wait for a thread."""
    request_timeout: float = Field(default=60.0, ge=0.0)
    """Seconds until a request is given up with 504 where its caller names no deadline; 0 for none."""
    max_batch: int = Field(default=16, ge=1)
    """Most rows of waiting requests that are run together; 1 joins none."""
    max_delay_ms: float = Field(default=0.0, ge=0.0)
    """Wait this long for company before a run; 0 joins only what waits anyway, so a lone request is never slower."""
    inline_seconds: float = Field(default=0.001, ge=0.0)
    """Work estimated below this runs in the event loop, without a change of threads; 0 never does."""
    max_body_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    """Longest request body or message, both transports."""
    max_elements: int = Field(default=16 * 1024 * 1024, ge=1)
    """Most elements one tensor may claim, or an explanation may make."""
    max_steps: int = Field(default=1024, ge=1)
    """Most path points, draws or masks of one explanation."""
    max_explain_rows: int = Field(default=4096, ge=1)
    """Most rows of the network that one explanation may run: its batch x its steps."""
    max_pixels: int = Field(default=25_000_000, ge=1)
    """Most pixels that the pictures of one request may state."""
    low_fidelity: Literal["refuse", "annotate"] = "refuse"
    """A model that fails its fidelity test: refuse to serve it, or serve it and say so in every explanation."""
    integrity_interval: float = Field(default=3600.0, ge=0.0)
    """Seconds between self-tests after the one at start; 0 for none."""
    shadow: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of rows also run through the uncompressed reference beside the artifact."""
    shadow_queue: int = Field(default=64, ge=1)
    """Comparisons that may wait; more are dropped and counted."""
    shadow_cpu_share: float = Field(default=0.02, gt=0.0, le=1.0)
    """Share of one core that comparisons, and solving the limits of their charts, may use together."""
    false_alarm_interval_days: float = Field(default=30.0, gt=0.0)
    """Wanted time between false drift alarms of this device, over all its charts."""
    on_alarm: Literal["annotate", "withhold_explanation", "rollback"] = "annotate"
    """A model in drift alarm: say so in every explanation, give none, or go back to the version before on disk."""
    on_alarm_of: dict[str, Literal["annotate", "withhold_explanation", "rollback"]] = {}
    """The same for single models, by name; as JSON in the environment."""
    state_dir: Path | None = None
    """Folder that keeps the drift charts over restarts; none forgets them."""
    worst_samples: int = Field(default=0, ge=0, le=1024)
    """Inputs of the largest distance that each model keeps in memory for the admin port; 0 keeps none."""
    reference_url: str = Field(default="", pattern=r"^((https?|grpcs?)://[^/]+/?)?$")
    """Another clearweight service that explains with the uncompressed reference, over REST (`http`, `https`) or gRPC
    (`grpc`, `grpcs`); sampled inputs are sent to it."""
    reference_timeout: float = Field(default=5.0, gt=0.0)
    """Seconds to wait for it; what takes longer is not compared."""
    reference_token_file: Path | None = None
    """File with the bearer token for it."""
    reference_ca_file: Path | None = None
    """Who may vouch for it; default the system's authorities."""
    reference_certificate_file: Path | None = None
    """This service's own certificate for it, for mutual TLS."""
    reference_key_file: Path | None = None
    """The key of that certificate."""
    tokens: SecretStr = SecretStr("")
    """Bearer tokens of users, separated by commas; best given in the environment. Without any, everyone is a user."""
    token_file: Path | None = None
    """File of users' tokens, one per line; read again when it changes."""
    admin_tokens: SecretStr = SecretStr("")
    """Bearer tokens of administrators, who are users, too."""
    admin_token_file: Path | None = None
    """File of administrators' tokens."""
    admin_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the repository verbs and of stored inputs; None, the default, switches them off on gRPC, too."""
    admin_host: str = "127.0.0.1"
    """Address of the admin port."""
    admin_without_token: bool = False
    """Let everyone on this machine use the admin port; only where it listens on loopback."""
    tls_cert: Path | None = None
    """Certificate with its chain (PEM): every port speaks TLS and nothing else. Read again when it changes."""
    tls_key: Path | None = None
    """Key of the certificate (PEM), without a password."""
    tls_client_ca: Path | None = None
    """Authorities of client certificates (PEM): clients without one are turned away."""
    max_connections: int = Field(default=1000, ge=1)
    """Connections at a time, per port."""
    anonymous_health: bool = True
    """Health endpoints answer without a token, for probes."""
    anonymous_metrics: bool = False
    """Metrics answer without a token, for scrapers that have none."""
    cors_origins: tuple[str, ...] = ()
    """Web origins whose pages may read answers; none by default. In the environment a JSON list."""
    body_seconds: float = Field(default=30.0, gt=0.0)
    """Time within which a REST body has to arrive."""
    max_held_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """Bytes of REST bodies that all requests together may hold; more are refused with 429."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level of the JSON logs on standard error; each request is one line of level info."""
    tracing_endpoint: str | None = None
    """OpenTelemetry collector that takes spans as OTLP over HTTP (http://collector:4318/v1/traces); None for none."""
    drain_seconds: float = Field(default=0.0, ge=0.0)
    """Pause between readiness off and the end of listening, for a load balancer to notice."""
    grace_seconds: float = Field(default=30.0, ge=0.0)
    """Longest wait for requests in flight at the end."""

    def _reference(self) -> RemoteOptions:
        return RemoteOptions(
            self.reference_url,
            self.reference_timeout,
            self.reference_token_file,
            self.reference_ca_file,
            self.reference_certificate_file,
            self.reference_key_file,
        )

    def engine(self) -> EngineOptions:
        """Return the engine's part."""
        return EngineOptions(
            threads=self.threads,
            fixed_batch=self.fixed_batch,
            memory=self.memory,
            all_explainers=self.all_explainers,
            low_fidelity=self.low_fidelity,
            public_key=self._public_key(),
            load=None if self.load == "*" else tuple(filter(None, map(str.strip, self.load.split(",")))),
            watch_seconds=self.watch_seconds,
            integrity_interval=self.integrity_interval,
            shadow=self.shadow,
            shadow_queue=self.shadow_queue,
            shadow_cpu_share=self.shadow_cpu_share,
            false_alarm_interval_days=self.false_alarm_interval_days,
            on_alarm=self.on_alarm,
            on_alarm_of=self.on_alarm_of,
            state_dir=self.state_dir,
            worst_samples=self.worst_samples,
            reference=self._reference() if self.reference_url else None,
            limits=Limits(
                body_bytes=self.max_body_bytes,
                elements=self.max_elements,
                steps=self.max_steps,
                explain_rows=self.max_explain_rows,
                pixels=self.max_pixels,
            ),
        )

    def _public_key(self) -> bytes | None:
        if self.require_signature is None:
            return None
        try:
            return self.require_signature.read_bytes()
        except OSError as error:
            raise LoadError(
                f"Cannot read the public key {self.require_signature}: {error.strerror}."
            ) from error

    def access(self, refused: Callable[[str], None] | None = None) -> Access:
        """Return who may call what; reads the token files.

        Parameters
        ----------
        refused : callable, optional
            Told of every refusal.

        Raises
        ------
        LoadError
            A file cannot be read, or holds what is no token.
        """
        return Access(
            TokenSet(self.tokens.get_secret_value(), self.token_file),
            TokenSet(self.admin_tokens.get_secret_value(), self.admin_token_file),
            anonymous_health=self.anonymous_health,
            anonymous_metrics=self.anonymous_metrics,
            refused=refused,
        )

    def tracing(self) -> "Tracing | None":
        """Return what makes spans, None without an endpoint; nothing of it is imported then.

        Raises
        ------
        LoadError
            The extra ``tracing`` is not installed.
        """
        if self.tracing_endpoint is None:
            return None
        try:
            from clearweight.service.tracing import Tracing  # noqa: PLC0415  # needs the extra
        except ModuleNotFoundError as error:
            raise LoadError(f"Tracing needs {error.name!r}: pip install 'clearweight[tracing]'.") from error
        return Tracing(self.tracing_endpoint)

    @property
    def needs_token(self) -> bool:
        """Whether users need a token."""
        return bool(self.tokens.get_secret_value() or self.token_file)

    def admin_access(self, access: Access) -> Access:
        """Return who may use the admin port.

        Raises
        ------
        LoadError
            It would be open to anyone but this machine.
        """
        if access.admin:
            return access
        if self.admin_without_token and self.admin_host in _LOOPBACK:
            return Access(tokenless=True)
        raise LoadError(
            f"The admin port on {self.admin_host} needs admin_tokens or admin_token_file; "
            "on loopback, admin_without_token does without."
        )

    def tls(self) -> Tls | None:
        """Return the TLS of all ports, None without.

        Raises
        ------
        LoadError
            Files are missing or do not fit together.
        """
        if self.tls_cert is not None and self.tls_key is not None:
            return Tls(self.tls_cert, self.tls_key, self.tls_client_ca)
        if self.tls_cert or self.tls_key or self.tls_client_ca:
            raise LoadError("TLS needs both tls_cert and tls_key; without them no port is encrypted.")
        return None

    def plane(self) -> PlaneOptions:
        """Return the dataplane's part."""
        return PlaneOptions(
            predict=self._lane(self.predict_workers, self.predict_queue, self.predict_queue_timeout),
            explain=self._lane(self.explain_workers, self.explain_queue, self.explain_queue_timeout),
            request_seconds=self.request_timeout,
        )

    def _lane(self, workers: int, queue: int, seconds: float) -> LaneOptions:
        return LaneOptions(
            workers=min(workers, _cores()),  # threads that share a core only keep it from the event loop
            queue=queue,
            queue_seconds=seconds,
            max_batch=self.max_batch,
            max_delay=self.max_delay_ms / 1e3,
            inline_seconds=self.inline_seconds,
        )


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
