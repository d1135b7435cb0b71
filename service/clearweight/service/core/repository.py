"""The models of a folder: which versions there are, which of them serve, and why the others do not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clearweight.artifact import Artifact, ArtifactError, find_artifacts
from clearweight.service.core.errors import LoadError, NotFoundError, UnavailableError
from clearweight.service.core.model import Model
from clearweight.service.core.observer import Observer
from clearweight.service.drift import Monitor

LOW_FIDELITY = ("refuse", "annotate")
"""What to do with a model that fails its fidelity test: do not serve it, or serve it and say so in every reply."""


@dataclass(slots=True, eq=False)
class Slot:
    """One version of one model, loaded or not."""

    name: str
    version: str
    path: Path
    model: Model | None
    problem: str
    low_fidelity: str
    reference: Model | None = None
    monitor: Monitor | None = None

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
        return ""

    @property
    def ready(self) -> bool:
        """Whether this version serves."""
        return not self.reason

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


class Repository:
    """Loads every artifact under ``root``; one that fails is kept with its reason and harms no other.

    Raises
    ------
    NotFoundError
        ``root`` holds no artifact.
    """

    def __init__(
        self, root: Path, *, threads: int, low_fidelity: str, observer: Observer, fixed_batch: int = 0
    ) -> None:
        try:
            found = find_artifacts(root)
        except ArtifactError as error:
            raise NotFoundError(str(error)) from error
        self._slots: dict[str, dict[str, Slot]] = {}
        for path in found:
            slot = _load(path, threads, fixed_batch, low_fidelity, observer)
            versions = self._slots.setdefault(slot.name, {})
            if slot.version in versions:
                other = versions[slot.version].path
                raise LoadError(
                    f"Model {slot.name!r} version {slot.version!r} stands twice: {other} and {path}."
                )
            versions[slot.version] = slot

    def __iter__(self) -> Iterator[Slot]:
        for versions in self._slots.values():
            yield from versions.values()

    @property
    def names(self) -> list[str]:
        """Model names, sorted."""
        return sorted(self._slots)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first."""
        return sorted(self._versions(name), key=version_key)

    def slot(self, name: str, version: str | None = None) -> Slot:
        """Return one version; None means the current one, which is the highest.

        Raises
        ------
        NotFoundError
            No such model or version.
        """
        versions = self._versions(name)
        if version is None:
            return (
                versions[max(versions, key=version_key)]
                if len(versions) > 1
                else next(iter(versions.values()))
            )
        slot = versions.get(version)
        if slot is None:
            raise NotFoundError(
                f"Model {name!r} has no version {version!r}. Versions: {', '.join(self.versions(name))}."
            )
        return slot

    def _versions(self, name: str) -> dict[str, Slot]:
        versions = self._slots.get(name)
        if versions is None:
            raise NotFoundError(f"Unknown model {name!r}.")
        return versions


def _load(path: Path, threads: int, fixed_batch: int, low_fidelity: str, observer: Observer) -> Slot:
    try:
        model = Model(Artifact.open(path), threads=threads, observer=observer, fixed_batch=fixed_batch)
    except (ArtifactError, LoadError, OSError) as error:
        return Slot(path.parent.name, path.name, path, None, str(error), low_fidelity)
    return Slot(model.name, model.version, path, model, "", low_fidelity)


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Order versions as people read them: runs of digits as numbers, "10" after "9", "1.2" before "1.10"."""
    parts = re.findall(r"\d+|\D+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)
