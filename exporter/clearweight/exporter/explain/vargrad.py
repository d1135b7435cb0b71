"""VarGrad: the variance of the gradient over noisy copies of the input.

``explain = 1/S sum_s (g_s - mean g)^2``, ``g_s = g(x + sigma (max x - min x) eps_s)``, eps standard normal (Adebayo
et al., Sanity Checks for Saliency Maps, NeurIPS 2018, section 2.2; Seo et al., arXiv 1806.03000): the variance of the
draws themselves (divided by S), never below zero. The noise is SmoothGrad's.
"""

from clearweight.exporter.autodiff import Emit
from clearweight.exporter.explain.classifier import Classifier
from clearweight.exporter.explain.explain_graph import Attribution, Choice, Explainer
from clearweight.exporter.explain.noisy_gradient import NOISE, SIGMA, as_map, mean_of_draws, noisy_gradients


def vargrad(emit: Emit, classifier: Classifier, choice: Choice) -> Attribution:
    """Add the variance of the gradient over noisy copies of the input."""
    lines = noisy_gradients(emit, classifier, choice, "vargrad")
    # Not the mean square less the squared mean: that loses the variance to rounding where it is small.
    apart = emit.op("Sub", lines, mean_of_draws(emit, lines))
    return Attribution(as_map(emit, mean_of_draws(emit, emit.op("Mul", apart, apart)), classifier.x))


EXPLAINER = Explainer(
    method="vargrad",
    resolution="input",
    sign="positive",
    units="squared logit per squared input unit",
    baseline="none",
    attribute=vargrad,
    inputs=(NOISE,),
    steps=16,
    settings={SIGMA: 0.15},
)
