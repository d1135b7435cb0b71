"""The models of a folder: which versions there are, which of them serve, and how they come and go while others run.

Whatever changes is prepared beside what serves and put in its place by one assignment, so requests never wait for a
load and never see half of one. A version that cannot be loaded, or fails its tests, changes nothing but the reason
that the index shows.
"""

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from clearweight.artifact import Artifact, ArtifactError, find_artifacts
from clearweight.service.core.errors import LoadError, NotFoundError, UnavailableError
from clearweight.service.core.model import Model
from clearweight.service.core.slot import Slot
from clearweight.service.core.types import ModelState

Load: TypeAlias = Callable[[Artifact], Model]
"""Make a model of a verified artifact: sessions open, warm, tested."""
Hook: TypeAlias = Callable[[Slot], None]
Table: TypeAlias = dict[str, dict[str, Slot]]

UNLOADED = "It was unloaded."
NOT_LOADED = "It is not loaded."


class Repository:
    """Every artifact under ``root``; one that fails at the start is kept with its reason and harms no other.

    Parameters
    ----------
    root : path
        One artifact, the versions of one model, or a folder of models.
    load : callable
    low_fidelity : "refuse" or "annotate"
    public_key : whose signature every artifact must carry, None for no one's
    chosen : names of the models to load now, None for all
    empty : bool
        Whether ``root`` may hold no artifact yet.

    Raises
    ------
    NotFoundError
        ``root`` holds no artifact, or none of a chosen name.
    """

    def __init__(
        self,
        root: Path,
        load: Load,
        *,
        low_fidelity: str,
        public_key: bytes | None = None,
        chosen: tuple[str, ...] | None = None,
        empty: bool = False,
    ) -> None:
        self.root = root
        self._load, self._low_fidelity, self._chosen = load, low_fidelity, chosen
        self._public_key = public_key
        self._changing = threading.Lock()  # one change at a time; nobody who only reads takes it
        self._table: Table = {}
        self._current: dict[str, Slot] = {}
        self._aside: dict[Path, ModelState] = {}  # known folders that are not served as they are now
        self._moving: dict[Path, str] = {}  # LOADING or UNLOADING
        self.prepare: Hook = _nothing
        self.retire: Hook = _nothing
        found = self.folders()
        if not found and not empty:
            raise NotFoundError(f"No artifact below {root}: expected OUT, OUT/NAME or OUT/NAME/VERSION.")
        missing = set(chosen or ()) - {_identity(path)[0] for path in found}
        if missing:
            raise NotFoundError(f"No model {', '.join(sorted(missing))} below {root}.")
        for path in found:
            name, version = _identity(path)
            if chosen is None or name in chosen:
                self._start(path)
            else:
                self._aside[path] = ModelState(name, version, "UNKNOWN", NOT_LOADED)

    def _start(self, path: Path) -> None:
        slot = self._open(path)
        other = self._table.get(slot.name, {}).get(slot.version)
        if other is not None:
            raise LoadError(
                f"Model {slot.name!r} version {slot.version!r} stands twice: {other.path} and {path}."
            )
        self._put(slot)

    def folders(self) -> list[Path]:
        """List the artifact folders on disk now."""
        try:
            return find_artifacts(self.root)
        except ArtifactError as error:
            if not self.root.is_dir():
                raise NotFoundError(str(error)) from error
            return []

    # -- looking up -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Slot]:
        for versions in self._table.values():
            yield from versions.values()

    @property
    def names(self) -> list[str]:
        """Model names, sorted."""
        return sorted(self._table)

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, oldest first."""
        return list(self._versions(name))

    def slot(self, name: str, version: str | None = None) -> Slot:
        """Return one version; None means the current one: the highest that passed its tests when it was loaded.

        Raises
        ------
        NotFoundError
            No such model or version.
        UnavailableError
            It is on disk, but was not loaded or was refused; the text says why.
        """
        if version is None:
            current = self._current.get(name)
            if current is not None:
                return current
        slot = self._table.get(name, {}).get(version or "")
        if slot is None:
            raise self._absent(name, version)
        return slot

    def _absent(self, name: str, version: str | None) -> NotFoundError | UnavailableError:
        for entry in self._aside.values():
            if entry.name == name and version in (None, entry.version):
                return UnavailableError(
                    f"Model {name!r} version {entry.version!r} is not ready. {entry.reason}"
                )
        if name not in self._table:
            return NotFoundError(f"Unknown model {name!r}.")
        known = ", ".join(self.versions(name))
        return NotFoundError(f"Model {name!r} has no version {version!r}. Versions: {known}.")

    def _versions(self, name: str) -> dict[str, Slot]:
        versions = self._table.get(name)
        if versions is None:
            raise NotFoundError(f"Unknown model {name!r}.")
        return versions

    def index(self) -> list[ModelState]:
        """List every version on disk or in memory with its state."""
        states = {}
        for path in self.folders():
            known = self._aside.get(path) or ModelState(*_identity(path), "UNKNOWN", NOT_LOADED)
            states[known.name, known.version] = replace(known, state=self._moving.get(path, known.state))
        for slot in self:
            state = self._moving.get(slot.path) or ("READY" if slot.ready else "UNAVAILABLE")
            reason = slot.reason or slot.problem
            states[slot.name, slot.version] = ModelState(slot.name, slot.version, state, reason)
        return sorted(states.values(), key=lambda entry: (entry.name, version_key(entry.version)))

    # -- changing -------------------------------------------------------------------------------------------------

    def load(self, name: str) -> None:
        """Load every version of a model that is on disk, anew where it has changed; forget those that are gone.

        Raises
        ------
        NotFoundError
            There is no such model on disk.
        LoadError
            A version could not be loaded or fails its tests; the others, and what served before, serve on.
        """
        with self._changing:
            found = [path for path in self.folders() if _identity(path)[0] == name]
            if not found:
                raise NotFoundError(f"No model {name!r} below {self.root}.")
            problems = [problem for path in found if (problem := self._replace(path))]
            for slot in list(self._table.get(name, {}).values()):
                if slot.path not in found:
                    self._take_out(slot)
        if problems:
            raise LoadError(" ".join(problems))

    def load_folder(self, path: Path) -> str:
        """Load one artifact folder if it differs from what serves; returns why it was refused, or nothing.

        A folder of a model that was not chosen is left alone.
        """
        with self._changing:
            chosen = self._chosen is None or _identity(path)[0] in self._chosen
            return self._replace(path) if chosen else ""

    def unload(self, name: str) -> None:
        """Take every version of a model out of memory; requests that run now finish.

        Raises
        ------
        NotFoundError
            Unknown model.
        """
        with self._changing:
            for slot in list(self._versions(name).values()):
                self._moving[slot.path] = "UNLOADING"
                try:
                    self._aside[slot.path] = ModelState(name, slot.version, "UNAVAILABLE", UNLOADED)
                    self._take_out(slot)
                finally:
                    del self._moving[slot.path]

    def forget(self, path: Path) -> None:
        """Drop what was loaded from a folder that is gone."""
        with self._changing:
            self._aside.pop(path, None)
            for slot in [slot for slot in self if slot.path == path]:
                self._take_out(slot)

    def withdraw(self, slot: Slot, reason: str) -> None:
        """Take a loaded version out of service without unloading it; the next lower one becomes current.

        An empty ``reason`` puts it back.
        """
        with self._changing:
            slot.withdrawn = reason
            self._settle(slot.name)

    def _replace(self, path: Path) -> str:
        """Load a folder beside what serves, and swap if it passes; returns the problem otherwise."""
        self._moving[path] = "LOADING"
        try:
            slot = self._open(path)
            if slot.reason:
                self._refuse(path, slot)
                return f"Model {slot.name!r} version {slot.version!r}: {slot.reason}"
            self._aside.pop(path, None)
            old = self._table.get(slot.name, {}).get(slot.version)
            slot.problem = ""
            if old is not slot:
                self.prepare(slot)
                self._put(slot)
                if old is not None:
                    self.retire(old)
            return ""
        finally:
            del self._moving[path]

    def _refuse(self, path: Path, slot: Slot) -> None:
        self._aside[path] = ModelState(slot.name, slot.version, "UNAVAILABLE", slot.reason)
        for served in self:
            if served.path == path:
                again = "" if served.model is None else "The newest attempt to load it failed: "
                served.problem = again + slot.reason

    def _open(self, path: Path) -> Slot:
        """Load a folder into a slot of its own; what serves from it is returned where it is still exactly that."""
        try:
            artifact = Artifact.open(path, public_key=self._public_key)
            for served in self:
                if served.path == path and served.serves(artifact.manifest.manifest_sha256):
                    return served
            model = self._load(artifact)
        except (ArtifactError, LoadError, OSError) as error:
            return Slot(*_identity(path), path, None, str(error), self._low_fidelity)
        return Slot(model.name, model.version, path, model, "", self._low_fidelity)

    def _put(self, slot: Slot) -> None:
        versions = {**self._table.get(slot.name, {}), slot.version: slot}
        self._table = {**self._table, slot.name: _sorted(versions)}
        self._settle(slot.name)

    def _take_out(self, slot: Slot) -> None:
        versions = {key: kept for key, kept in self._table[slot.name].items() if kept is not slot}
        table = {**self._table, slot.name: versions}
        if not versions:
            del table[slot.name]
        self._table = table
        self._settle(slot.name)
        self.retire(slot)

    def _settle(self, name: str) -> None:
        """Choose the current version: the highest that serves, or the highest of all where none does."""
        versions = list(self._table.get(name, {}).values())
        serving = [slot for slot in versions if slot.ready]
        if versions:
            self._current = {**self._current, name: (serving or versions)[-1]}
        else:
            self._current = {key: slot for key, slot in self._current.items() if key != name}


def _nothing(slot: Slot) -> None:
    del slot


def _identity(path: Path) -> tuple[str, str]:
    """Name and version as the manifest has them, or as the folder has where there is no telling."""
    try:
        manifest = Artifact.open(path, verify=False).manifest
    except (ArtifactError, OSError):
        return path.parent.name, path.name
    return manifest.name, manifest.version


def _sorted(versions: dict[str, Slot]) -> dict[str, Slot]:
    return {version: versions[version] for version in sorted(versions, key=version_key)}


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Order versions as people read them: runs of digits as numbers, "10" after "9", "1.2" before "1.10"."""
    parts = re.findall(r"\d+|\D+", version)
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)
