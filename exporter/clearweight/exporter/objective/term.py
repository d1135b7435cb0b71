"""What every term of the objective sees of one batch, and what it may ask for.

The batch is evaluated once for all terms: each term declares what it needs (`Needs`), the objective computes the
union, and a term is a pure function of the result.
"""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Needs:
    """What a term wants of a batch.

    Attributes
    ----------
    input_gradient : the student's input x gradient map of the target logit, with its graph kept
    features : names of modules whose outputs are wanted, or patterns of names, which the objective resolves
    feature_gradients : also the gradient of the target logit with respect to those outputs
    """

    input_gradient: bool = False
    features: frozenset[str] = frozenset()
    feature_gradients: bool = False

    def __or__(self, other: "Needs") -> "Needs":
        """Everything that either wants."""
        return Needs(
            self.input_gradient or other.input_gradient,
            self.features | other.features,
            self.feature_gradients or other.feature_gradients,
        )


@dataclass(frozen=True)
class View:
    """One network's view of a batch of n inputs.

    Attributes
    ----------
    logits : (n, classes)
    input_map : (n, *input shape), x o dF_c/dx for the reference's top class c; None unless asked for
    features : module name -> (n, channels, *space)
    feature_gradients : module name -> dF_c/dA, same shapes; empty unless asked for
    """

    logits: Tensor
    input_map: Tensor | None = None
    features: dict[str, Tensor] = field(default_factory=dict)
    feature_gradients: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """A batch as both networks see it.

    Attributes
    ----------
    labels : (n,) int64
    student : the network being compressed; its graph is kept
    reference : the uncompressed network; detached
    """

    labels: Tensor
    student: View
    reference: View
