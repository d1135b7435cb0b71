"""SmoothGrad: the mean gradient over noisy copies of the input.

``explain = 1/S sum_s g(x + sigma (max x - min x) eps_s)``, eps standard normal (Smilkov et al., arXiv 1706.03825,
equation in section 2), signed. The noise level ``sigma`` is a share of the range of each input by itself, as in the
paper; the noise is an input of the graph, shared by the rows of a batch, so that the same noise gives the same map.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.noisy_gradient import NOISE, SIGMA, as_map, mean_of_draws, noisy_gradients


def smoothgrad(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the mean gradient over noisy copies of the input."""
    lines = noisy_gradients(emit, classifier, choice, "smoothgrad")
    return Attribution(as_map(emit, mean_of_draws(emit, lines), classifier.x))


EXPLAINER = Explainer(
    method="smoothgrad",
    resolution="input",
    sign="signed",
    units="logit per input unit",
    baseline="none",
    attribute=smoothgrad,
    inputs=(NOISE,),
    steps=16,
    settings={SIGMA: 0.15},
)
