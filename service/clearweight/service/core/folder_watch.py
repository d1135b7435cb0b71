"""Follow a folder of artifacts without being told: what comes is loaded, what changes is swapped, what goes is retired.

For devices whose models are copied, synchronised or unpacked into place. A version is tried once it has stopped
changing between two looks, and again only when its files change, so neither a half-copied nor a broken one is ever
tried in a circle: the manifest names every file with its size and digest, so half a copy never passes for a whole.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from clearweight.service.core.errors import NotFoundError
from clearweight.service.core.repository import Repository

_LOG = logging.getLogger("clearweight.service")

Signature: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""(name, bytes, inode, time of change) of every file; another one means that something was written."""


class FolderWatch:
    """Looks at a repository's folder whenever ``look`` is called.

    Parameters
    ----------
    repository : Repository
    """

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._last: Mapping[Path, Signature] = _signatures(repository)
        # What is there was loaded a moment ago; the first looks make sure that it was this, at the price of a hash.
        self._tried: dict[Path, Signature] = dict.fromkeys(self._last, ())

    def look(self) -> None:
        """Load what has come or changed and held still since the last look, retire what has been gone for two."""
        try:
            found = _signatures(self._repository)
        except (NotFoundError, OSError) as error:  # a network drive that went away takes no model with it
            _LOG.warning("Cannot look into %s: %s", self._repository.root, error)
            return
        for path, signature in found.items():
            if signature == self._last.get(path) and signature != self._tried.get(path):
                self._tried[path] = signature
                self._try(path)
        for path in [path for path in self._tried if path not in found and path not in self._last]:
            del self._tried[path]
            self._repository.forget(path)
            _LOG.info("%s is gone and was retired.", path)
        self._last = found

    def _try(self, path: Path) -> None:
        problem = self._repository.load_folder(path)
        if problem:
            _LOG.warning("%s was not loaded. %s", path, problem)
        else:
            _LOG.info("%s is loaded.", path)


def _signatures(repository: Repository) -> dict[Path, Signature]:
    return {path: _signature(path) for path in repository.folders()}


def _signature(path: Path) -> Signature:
    entries = []
    try:
        for entry in os.scandir(path):
            status = entry.stat(follow_symlinks=False)
            entries.append((entry.name, status.st_size, status.st_ino, status.st_ctime_ns))
    except FileNotFoundError:  # it is being replaced right now; the next look sees the result
        return ()
    return tuple(sorted(entries))
