"""Everything that depends on the network's shape alone, tried with untrained weights before hours of training."""

import torch

from clearweight.exporter.autodiff import UnsupportedOpError
from clearweight.exporter.emission import explain_graphs
from clearweight.exporter.errors import RecipeError
from clearweight.exporter.explain import build
from clearweight.exporter.graph import to_onnx
from clearweight.exporter.preparation import freeze, new_model
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.stimulated import check_units


def rehearse(recipe: Recipe) -> None:
    """Build the network and every explain graph that the recipe asks for, and throw them away.

    Raises
    ------
    RecipeError
        An unknown method, layer or unit, a method that this network does not allow, or int8 for one whose gradient
        cannot be taken: that is how near a quantized network comes to its reference is measured.
    GraphError
        The network cannot be exported to ONNX.
    """
    network = freeze(new_model(recipe, recipe.seed))
    predict = to_onnx(network, torch.zeros(2, *recipe.model.input_shape))
    explain_graphs(predict, recipe)
    if recipe.deploy == "int8":
        try:
            build(predict, "gradient")
        except UnsupportedOpError as error:
            raise RecipeError(f"deploy: int8 needs a network whose gradient can be taken: {error}") from error
    check_units(recipe, predict)
