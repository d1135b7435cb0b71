"""The charts' state on disk, so that a restart does not forget a drift that was building up.

One small JSON file per model and version, replaced as a whole. It is bound to the artifact's digest: charts of another
null would read another meaning into the same numbers. A file that is damaged, foreign or of another form is left
behind with a logged reason, and the charts start anew.
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

from clearweight.service.drift.monitor import Monitor

_LOG = logging.getLogger("clearweight.service")
FORM = 1


class StateFile:
    """Keeps one monitor.

    Parameters
    ----------
    folder : path
        Made when it is first written to.
    model : str
        Name and version, as one file name.
    sha256 : str
        The artifact's manifest digest.
    """

    def __init__(self, folder: Path, model: str, sha256: str) -> None:
        self.path = folder / f"{model}.drift.json"
        self._sha256 = sha256

    def restore(self, monitor: Monitor) -> bool:
        """Continue where the last process stopped; False where there is nothing that can be continued."""
        try:
            kept = json.loads(self.path.read_bytes())
            found = (kept["form"], kept["model_sha256"])
            if found != (FORM, self._sha256):
                raise ValueError(f"It is of form and model {found}, expected {(FORM, self._sha256)}.")  # noqa: TRY301
            monitor.restore(kept["state"])
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError, KeyError) as error:
            _LOG.warning("The drift state in %s is not used: %s: %s", self.path, type(error).__name__, error)
            return False
        return True

    def save(self, monitor: Monitor) -> None:
        """Replace the file; a failure is logged, for the charts in memory go on without it."""
        kept: dict[str, Any] = {"form": FORM, "model_sha256": self._sha256, "state": monitor.snapshot()}
        beside = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("w", encoding="utf-8") as file:
                json.dump(kept, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            _LOG.warning("The drift state could not be written to %s: %s", self.path, error)
