"""The whole comparison: names, identities, and that nothing is computed for the wrong class."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from clearweight.exporter.errors import DataError
from clearweight.exporter.evaluate import (
    compare,
    compare_maps,
    cosine,
    deletion_auc,
    gradient,
    input_x_gradient,
    integrated_gradients,
    maps_of,
    occlusion,
    reference_maps,
    sensitivity_weighted,
    spearman,
    top10_iou,
    top_class,
)

SIMILARITIES = (
    "cosine_input_x_gradient",
    "cosine_gradient",
    "cosine_occlusion",
    "cosine_integrated_gradients",
    "cosine_swa",
    "spearman_input_x_gradient",
    "top10_iou_input_x_gradient",
)


def test_a_model_agrees_with_itself(reference, images):
    result = compare(reference, reference, images, feature_layer="pool")

    assert [getattr(result, name) for name in SIMILARITIES] == pytest.approx([1.0] * 7)
    assert result.deletion_auc == result.reference_deletion_auc
    assert result.spearman_to_own_occlusion == result.reference_spearman_to_own_occlusion
    assert (result.images, result.undefined) == (9, 0)


def test_every_row_is_its_definition_on_the_references_top_class(reference, compressed, images):
    target = top_class(reference, images)

    def both(method, *more):
        maps = [method(model, images, target, *more) for model in (reference, compressed)]
        return [values.sum(1) if values.ndim == 4 else values for values in maps]

    products = both(input_x_gradient)
    expected = {
        "cosine_input_x_gradient": cosine(*products),
        "cosine_gradient": cosine(*both(gradient)),
        "cosine_occlusion": cosine(*both(occlusion)),
        "cosine_integrated_gradients": cosine(*both(integrated_gradients)),
        "cosine_swa": cosine(*both(sensitivity_weighted, "pool")),
        "spearman_input_x_gradient": spearman(*products),
        "top10_iou_input_x_gradient": top10_iou(*products),
        "deletion_auc": deletion_auc(compressed, images, target, products[1]),
        "reference_deletion_auc": deletion_auc(reference, images, target, products[0]),
        "spearman_to_own_occlusion": spearman(products[1], both(occlusion)[1]),
        "reference_spearman_to_own_occlusion": spearman(products[0], both(occlusion)[0]),
    }

    found = dataclasses.asdict(compare(reference, compressed, images, feature_layer="pool"))

    assert (found.pop("images"), found.pop("undefined")) == (9, 0)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values.mean(), abs=1e-4), name
        assert found[name] < 0.9999


def test_without_a_feature_layer_there_is_no_swa(reference, compressed, images):
    assert compare(reference, compressed, images).cosine_swa is None


def test_known_reference_maps_change_nothing(reference, compressed, images):
    known = reference_maps(reference, images, "pool")

    assert compare(reference, compressed, images, feature_layer="pool", known=known) == compare(
        reference, compressed, images, feature_layer="pool"
    )


def test_only_the_first_thousand_images_count():
    module = nn.Linear(6, 3)
    vectors = torch.randn(1100, 6)

    assert compare(module, module, vectors).images == 1000


def test_undefined_maps_are_counted_not_dropped(reference, images):
    dead = copy.deepcopy(reference)
    nn.init.zeros_(dead.fc.weight)

    result = compare(reference, dead, images, feature_layer="pool")

    assert result.cosine_input_x_gradient is None
    assert result.deletion_auc is None
    assert result.undefined == 9 * 9
    assert result.reference_deletion_auc is not None


class Halved(nn.Module):
    def forward(self, weight):
        return weight * 0.5


def test_constraints_in_place_are_applied_and_the_model_is_left_alone(reference, images):
    masked = copy.deepcopy(reference)
    parametrize.register_parametrization(masked.conv, "weight", Halved())
    masked.train()
    plain = copy.deepcopy(reference)
    with torch.no_grad():
        plain.conv.weight *= 0.5

    assert compare(reference, masked, images) == compare(reference, plain, images)
    assert masked.training
    assert parametrize.is_parametrized(masked.conv)
    assert all(parameter.requires_grad for parameter in masked.parameters())


def test_maps_of_different_classes_are_not_compared(reference, images):
    target = top_class(reference, images)

    with pytest.raises(DataError, match="different classes"):
        compare_maps(maps_of(reference, images, target), maps_of(reference, images, (target + 1) % 4))


def test_maps_have_their_channels_summed(reference, images):
    maps = reference_maps(reference, images, "pool")

    for name in ("gradient", "input_x_gradient", "integrated_gradients", "occlusion"):
        assert getattr(maps, name).shape == (9, 6, 10)
        assert getattr(maps, name).dtype == np.float32
    assert maps.swa.shape == (9, 3, 5)
