"""All attribution rows of a comparison between a reference and its compressed form."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from clearweight.exporter.errors import DataError
from clearweight.exporter.evaluate import attribution, similarity
from clearweight.exporter.evaluate.attribution import Map, Targets, channels_innermost, over_channels
from clearweight.exporter.evaluate.faithfulness import deletion_auc, spearman_to_own_occlusion
from clearweight.exporter.evaluate.similarity import Values
from clearweight.exporter.graph.plain import without_parametrizations

IMAGES = 1000


@dataclass(frozen=True, eq=False)
class Maps:
    """What one model says about a set of images; every map is (N, *space), channels summed.

    ``swa`` is at the resolution of the feature layer, None without one. The last two fields are the
    model's faithfulness to itself, (N,).
    """

    targets: Targets
    gradient: Map
    input_x_gradient: Map
    integrated_gradients: Map
    occlusion: Map
    swa: Map | None
    deletion_auc: Values
    spearman_to_own_occlusion: Values


@dataclass(frozen=True)
class Comparison:
    """Means over images, under the names of the benchmark's rows; None where no image has a value.

    ``undefined`` counts images without a value, summed over the similarities and the model's own
    deletion and rank correlation.
    """

    cosine_input_x_gradient: float | None
    cosine_gradient: float | None
    cosine_occlusion: float | None
    cosine_integrated_gradients: float | None
    cosine_swa: float | None
    spearman_input_x_gradient: float | None
    top10_iou_input_x_gradient: float | None
    deletion_auc: float | None
    reference_deletion_auc: float | None
    spearman_to_own_occlusion: float | None
    reference_spearman_to_own_occlusion: float | None
    images: int
    undefined: int


def maps_of(module: nn.Module, images: Tensor, targets: Targets, feature_layer: str | None = None) -> Maps:
    """Explain the given class of each image in every way that is compared.

    Parameters
    ----------
    module : maps (N, ...) to logits (N, C); not changed
    images : float32, shape (N, C, *space) or (N, D)
    targets : int64, shape (N,): the reference's top class
    feature_layer : name of the module whose output the SWA map is taken at
    """
    plain = channels_innermost(without_parametrizations(module))
    images = images.detach().cpu()
    through_input = over_channels(attribution.input_x_gradient(plain, images, targets))
    occluded = attribution.occlusion(plain, images, targets)
    return Maps(
        targets=targets,
        gradient=over_channels(attribution.gradient(plain, images, targets)),
        input_x_gradient=through_input,
        integrated_gradients=over_channels(attribution.integrated_gradients(plain, images, targets)),
        occlusion=occluded,
        swa=None
        if feature_layer is None
        else attribution.sensitivity_weighted(plain, images, targets, feature_layer),
        deletion_auc=deletion_auc(plain, images, targets, through_input),
        spearman_to_own_occlusion=spearman_to_own_occlusion(through_input, occluded),
    )


def reference_maps(reference: nn.Module, images: Tensor, feature_layer: str | None = None) -> Maps:
    """Explain the reference's own top class of the first 1000 images; computed once per reference."""
    chosen = images[:IMAGES]
    targets = attribution.top_class(without_parametrizations(reference), chosen)
    return maps_of(reference, chosen, targets, feature_layer)


def image_values(reference: Maps, own: Maps) -> dict[str, Values]:
    """Compare two models' maps image by image: every similarity, and the second model's faithfulness to itself.

    Returns
    -------
    name of the row -> float64 (N,), NaN where a map is undefined

    Raises
    ------
    DataError
        The maps explain different classes, so they must not be compared.
    """
    if not np.array_equal(reference.targets, own.targets):
        raise DataError("The two sets of maps explain different classes, expected the reference's top class.")
    pairs = {
        "cosine_input_x_gradient": similarity.cosine(reference.input_x_gradient, own.input_x_gradient),
        "cosine_gradient": similarity.cosine(reference.gradient, own.gradient),
        "cosine_occlusion": similarity.cosine(reference.occlusion, own.occlusion),
        "cosine_integrated_gradients": similarity.cosine(
            reference.integrated_gradients, own.integrated_gradients
        ),
        "spearman_input_x_gradient": similarity.spearman(reference.input_x_gradient, own.input_x_gradient),
        "top10_iou_input_x_gradient": similarity.top10_iou(reference.input_x_gradient, own.input_x_gradient),
        "deletion_auc": own.deletion_auc,
        "spearman_to_own_occlusion": own.spearman_to_own_occlusion,
    }
    if reference.swa is not None and own.swa is not None:
        pairs["cosine_swa"] = similarity.cosine(reference.swa, own.swa)
    return pairs


def compare_maps(reference: Maps, own: Maps) -> Comparison:
    """Compare two models' maps of the same images and classes.

    Raises
    ------
    DataError
        The maps explain different classes, so they must not be compared.
    """
    pairs = image_values(reference, own)
    means = {name: similarity.mean(values) for name, values in pairs.items()}
    return Comparison(
        cosine_swa=means.pop("cosine_swa", None),
        **means,
        reference_deletion_auc=similarity.mean(reference.deletion_auc),
        reference_spearman_to_own_occlusion=similarity.mean(reference.spearman_to_own_occlusion),
        images=len(own.targets),
        undefined=sum(similarity.undefined(values) for values in pairs.values()),
    )


def compare(
    reference: nn.Module,
    compressed: nn.Module,
    images: Tensor,
    *,
    feature_layer: str | None = None,
    known: Maps | None = None,
) -> Comparison:
    """Compare the explanations of two models on the first 1000 images.

    The explained class is the reference's top class in both models.

    Parameters
    ----------
    reference, compressed : map (N, ...) to logits (N, C)
    images : float32, shape (N, C, *space) or (N, D)
    feature_layer : where SWA maps are taken; None leaves ``cosine_swa`` out
    known : the reference's maps from ``reference_maps`` on the same images, to compute them only once
    """
    told = reference_maps(reference, images, feature_layer) if known is None else known
    return compare_maps(told, maps_of(compressed, images[:IMAGES], told.targets, feature_layer))
