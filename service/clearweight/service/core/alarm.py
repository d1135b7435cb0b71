"""What a drift alarm does to a model that serves: it says so, explains nothing, or makes way for an older version."""

import logging

from clearweight.service.core.errors import WithheldError
from clearweight.service.core.repository import Repository, version_key
from clearweight.service.core.slot import Slot

_LOG = logging.getLogger("clearweight.service")


def drift_state(slot: Slot) -> str:
    """Return what an explanation says of drift: the monitor's state, ``disabled`` where there is none."""
    return slot.monitor.state if slot.monitor is not None else "disabled"


def check_allowed(slot: Slot, policy: str) -> None:
    """Refuse an explanation of a model in alarm where its policy withholds them.

    Raises
    ------
    WithheldError
    """
    if policy == "withhold_explanation" and slot.monitor is not None and slot.monitor.state == "alarm":
        raise WithheldError(
            f"Model {slot.name!r} gives no explanations while its drift_state is 'alarm'. "
            f"{slot.monitor.report().reason}"
        )


def respond(repository: Repository, slot: Slot, policy: str, reason: str) -> None:
    """Do what the policy asks for when a version enters the alarm state; in the background."""
    _LOG.warning("Drift alarm of model %s version %s. %s", slot.name, slot.version, reason)
    if policy != "rollback":
        return
    older = [
        other
        for other in repository
        if other.name == slot.name and version_key(other.version) < version_key(slot.version) and other.ready
    ]
    if not older:
        _LOG.error("There is no older version of model %s to go back to.", slot.name)
        return
    back = max(older, key=lambda other: version_key(other.version)).version
    repository.withdraw(slot, f"Rolled back to version {back!r} on a drift alarm. {reason}")
