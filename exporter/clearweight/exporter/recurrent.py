"""Recurrent layers under constraints: weights looked up at every call, and gradients that have gradients.

torch's GRU, LSTM and RNN keep a second list of their weights for cuDNN, filled when the layer is made. A constraint
takes the weight out of the module and puts a computed one in its place; the list keeps the old tensor, and the forward
pass runs on it without a word. cuDNN's own kernels, besides, give no gradient in evaluation mode and none of a
gradient, which attribution matching takes.
"""

from typing import Any

import torch
from torch import Tensor, nn


class _LookedUp(nn.RNNBase):
    """What is put before a recurrent layer's own class."""

    @property
    def _flat_weights(self) -> list[Tensor | None]:
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, _kept: list[Tensor | None]) -> None:
        """Keep nothing: torch fills its list when a layer is made, moved or copied."""

    def flatten_parameters(self) -> None:
        """Do nothing: cuDNN's layout is for cuDNN's kernels."""

    def forward(self, *given: Any, **named: Any) -> Any:
        """Run the layer by torch's own kernels."""
        with torch.backends.cudnn.flags(enabled=False):
            return super().forward(*given, **named)


def look_up_weights(model: nn.Module) -> nn.Module:
    """Make every recurrent layer of ``model`` read the weights that its attributes give, in place.

    The layers keep their names, their parameters and what they compute; a second call changes nothing.

    Returns
    -------
    ``model``
    """
    for module in model.modules():
        if isinstance(module, nn.RNNBase) and not isinstance(module, _LookedUp):
            kind = type(module)
            module.__class__ = type(kind.__name__, (_LookedUp, kind), {})
            module.__dict__.pop("_flat_weights", None)
    return model
