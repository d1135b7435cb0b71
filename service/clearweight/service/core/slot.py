"""One version of one model as the repository holds it: loaded or not, serving or not, and why not."""

from dataclasses import dataclass
from pathlib import Path

from clearweight.service.core.errors import InvalidRequestError, UnavailableError, UnsupportedError
from clearweight.service.core.model import Model
from clearweight.service.core.parameters import REFERENCE
from clearweight.service.core.types import Scalar
from clearweight.service.drift import Monitor
from clearweight.service.drift.worst_samples import WorstSamples

LOW_FIDELITY = ("refuse", "annotate")
"""What to do with a model that fails its fidelity test: do not serve it, or serve it and say so in every reply."""


@dataclass(slots=True, eq=False)
class Slot:
    """One version; a reload puts another slot in its place, so that whoever holds this one finishes on its model.

    Attributes
    ----------
    model : None when it could not be loaded, or was unloaded; ``problem`` says which
    problem : why there is no model, or why the newest attempt to replace it failed
    withdrawn : why a loaded version was taken out of service; empty while it was not
    """

    name: str
    version: str
    path: Path
    model: Model | None
    problem: str
    low_fidelity: str
    reference: Model | None = None
    monitor: Monitor | None = None
    worst: WorstSamples | None = None
    withdrawn: str = ""

    @property
    def reason(self) -> str:
        """Why this version does not serve; empty when it does."""
        model = self.model
        if model is None:
            return self.problem
        if model.fidelity.state == "failed" and self.low_fidelity == "refuse":
            return f"Fidelity: {model.fidelity.reason}"
        if model.integrity.state == "failed":
            return f"Integrity: {model.integrity.reason}"
        return self.withdrawn

    @property
    def ready(self) -> bool:
        """Whether this version serves."""
        return not self.reason

    def serves(self, sha256: str) -> bool:
        """Tell whether this version serves, from the artifact with this manifest digest."""
        return self.model is not None and self.ready and self.model.sha256 == sha256

    def serving(self) -> Model:
        """Return the model.

        Raises
        ------
        UnavailableError
            It does not serve; the text says why.
        """
        reason = self.reason
        if self.model is None or reason:
            raise UnavailableError(f"Model {self.name!r} version {self.version!r} is not ready. {reason}")
        return self.model

    def explaining(self, variant: Scalar | None) -> Model:
        """Return the model that an explain request asks for: the served one, or with ``reference`` the reference.

        Raises
        ------
        UnavailableError
            The served model is not ready.
        UnsupportedError
            No reference is loaded beside it.
        InvalidRequestError
            There is no such variant.
        """
        served = self.serving()
        if variant in (None, served.manifest.variant):
            return served
        if variant != REFERENCE:
            raise InvalidRequestError(
                f"Parameter 'variant' is {variant!r}, expected {served.manifest.variant!r} or {REFERENCE!r}."
            )
        if self.reference is None:
            raise UnsupportedError(f"The reference of model {self.name!r} is not loaded.")
        return self.reference
