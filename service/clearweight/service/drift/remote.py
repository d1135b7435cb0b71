"""The reference on another machine: how it is reached, and the test that it is the one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clearweight.service.drift.remote_options import RemoteOptions, RemoteReferenceError
from clearweight.service.drift.remote_reference import Reference
from clearweight.service.drift.remote_rest import RestReference

_KERNELS = 1e-3
"""Share of the largest logit by which another processor's kernels may move one."""


def reference_at(options: RemoteOptions, model: str, version: str, output: str) -> Reference:
    """Return the reference of this model behind ``options.url``, over the protocol that its scheme names."""
    if options.scheme in ("http", "https"):
        return RestReference(options, model, version, output)
    from clearweight.service.drift.remote_rpc import RpcReference  # noqa: PLC0415  # gRPC is megabytes, and needed here alone

    return RpcReference(options, model, version, output)


class Tested:
    """A reference that is asked for the probes first: a service may answer, and yet with another model.

    Parameters
    ----------
    reference : Reference
    probes : inputs by name
    logits : (n, classes)
        What the reference answered to the probes when the artifact was exported.
    """

    def __init__(
        self, reference: Reference, probes: Mapping[str, NDArray[Any]], logits: NDArray[np.float32]
    ) -> None:
        self.reference, self._probes, self._logits = reference, probes, logits
        self._passed = False

    def __call__(
        self, inputs: Mapping[str, NDArray[Any]], target: NDArray[np.int64]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Explain, after the test of the first time.

        Raises
        ------
        RemoteReferenceError
            It cannot be asked, or its answers to the probes are not the reference's.
        """
        if not self._passed:
            _, found = self.reference.explain(self._probes, np.full(len(self._logits), -1, dtype=np.int64))
            scale = float(np.abs(self._logits).max(initial=0.0))
            if found.shape != self._logits.shape or not np.allclose(
                found, self._logits, rtol=0.0, atol=_KERNELS * scale
            ):
                raise RemoteReferenceError("It is not the reference that this artifact was compared with.")
            self._passed = True
        return self.reference.explain(inputs, target)

    def close(self) -> None:
        """Hang up."""
        self.reference.close()
