"""From a recipe to what compression starts from: data, splits, preprocessing and the trained reference."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from clearweight.artifact import Preprocessing
from clearweight.artifact.preprocessing import apply as preprocess
from clearweight.exporter.checkpoint import Checkpoints, checkpoint_key, section
from clearweight.exporter.data import (
    Labelled,
    from_callable,
    labelled,
    read_idx,
    read_image_folder,
    read_npz,
)
from clearweight.exporter.errors import DataError, RecipeError
from clearweight.exporter.graph import fold_batchnorm
from clearweight.exporter.recipe import Recipe
from clearweight.exporter.sections import SourceSection
from clearweight.exporter.source import build_model
from clearweight.exporter.splits import Splits, check_disjoint, digest, split
from clearweight.exporter.training import Progress, Runtime, Samples, fit


@dataclass(frozen=True, eq=False)
class Prepared:
    """What compression starts from.

    Attributes
    ----------
    reference : the uncompressed network, BatchNorm folded, in evaluation mode, frozen
    test : what accuracy is reported on: the recipe's test data, else the validation part
    labels : class names, in the order of the logits
    digests : SHA-256 of every part of the data
    """

    recipe: Recipe
    reference: nn.Module
    splits: Splits
    test: Labelled
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    digests: dict[str, str]
    runtime: Runtime
    checkpoints: Checkpoints

    def inputs(self, part: Labelled) -> Tensor:
        """Return the network's float32 inputs for the raw inputs of ``part``."""
        return torch.from_numpy(preprocess(self.preprocessing, part.inputs))

    def samples(self, part: Labelled) -> Samples:
        """Return ``part`` ready for training."""
        return Samples(self.inputs(part), torch.from_numpy(part.labels))


def load_source(section: SourceSection, input_shape: tuple[int, ...], resize: str | None = None) -> Labelled:
    """Read labelled inputs from where the recipe says.

    Parameters
    ----------
    resize : of the recipe's preprocessing, for pictures of another size

    Raises
    ------
    DataError
        The file is missing, or its content does not fit the network's input.
    """
    for path in (section.npz, section.idx, section.idx_labels, section.image_folder):
        if path is not None and not path.exists():
            raise DataError(f"Data {str(path)!r} does not exist.")
    if section.npz is not None:
        return labelled(*read_npz(section.npz, section.inputs, section.labels), input_shape, str(section.npz))
    if section.idx is not None and section.idx_labels is not None:
        return labelled(read_idx(section.idx), read_idx(section.idx_labels), input_shape, str(section.idx))
    if section.image_folder is not None:
        return labelled(
            *read_image_folder(section.image_folder, input_shape, resize),
            input_shape,
            str(section.image_folder),
        )
    if section.callable is None:
        raise RecipeError("The data source names neither a file nor a callable.")
    return from_callable(section.callable, input_shape, section.arguments)


def make_runtime(recipe: Recipe, progress: Progress) -> Runtime:
    """Fix threads, seed and determinism, and return where training runs."""
    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(mode=True)
    torch.manual_seed(recipe.seed)
    return Runtime(Fabric(accelerator=recipe.accelerator, devices=1), recipe.seed, progress)


def new_model(recipe: Recipe, seed: int) -> nn.Module:
    """Build the user's network; its initial weights follow ``seed``."""
    torch.manual_seed(seed)
    return build_model(recipe.model.callable, recipe.model.arguments, recipe.model.weights)


def _cross_entropy(
    forward: Callable[[Tensor], Tensor], inputs: Tensor, labels: Tensor, _draws: torch.Generator
) -> Tensor:
    return functional.cross_entropy(forward(inputs).float(), labels)


def train_reference(
    recipe: Recipe,
    samples: Samples,
    runtime: Runtime,
    seed: int,
    digests: dict[str, str],
    checkpoints: Checkpoints,
) -> nn.Module:
    """Return the reference: the user's weights, trained if the recipe says so, BatchNorm folded, frozen."""
    model = new_model(recipe, seed)
    if recipe.reference is not None:
        made_of = (recipe.model, recipe.reference, recipe.data.preprocessing)
        key = checkpoint_key("reference", section(made_of), digests["fit"], seed, recipe.threads)
        known = checkpoints.load(key)
        if known is not None:
            model.load_state_dict(known)
        else:
            seeded = Runtime(runtime.fabric, seed, runtime.progress)
            fit(model, samples, _cross_entropy, recipe.reference.fine_tune, seeded, what="reference")
            checkpoints.save(key, {n: v.detach().cpu().contiguous() for n, v in model.state_dict().items()})
    return freeze(fold_batchnorm(model.cpu().eval(), samples.inputs[:2]))


def freeze(model: nn.Module) -> nn.Module:
    """Return ``model`` in evaluation mode with no parameter that trains."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model.eval()


def prepare(recipe: Recipe, progress: Progress, checkpoints: Checkpoints) -> Prepared:
    """Load the data, cut it, and train or load the reference.

    Raises
    ------
    ExporterError
        Whatever of the recipe, the data or the model is wrong (see `errors`).
    """
    shape = recipe.model.input_shape
    section = recipe.data.preprocessing
    data = load_source(recipe.data.source, shape, section.resize)
    splits = split(
        data, validation=recipe.data.validation, calibration=recipe.data.calibration, seed=recipe.seed
    )
    digests = splits.digests()
    test = splits.validation
    if recipe.data.test is not None:
        test = load_source(recipe.data.test, shape, section.resize)
        check_disjoint(
            fit=splits.fit, validation=splits.validation, calibration=splits.calibration, test=test
        )
        digests["test"] = digest(test)
    preprocessing = Preprocessing(
        raw_datatype="UINT8" if data.inputs.dtype == np.uint8 else "FP32",
        scale=section.scale,
        mean=section.mean,
        std=section.std,
        resize=section.resize,
        white=section.white,
    )
    runtime = make_runtime(recipe, progress)
    fitting = Samples(
        torch.from_numpy(preprocess(preprocessing, splits.fit.inputs)), torch.from_numpy(splits.fit.labels)
    )
    reference = train_reference(recipe, fitting, runtime, recipe.seed, digests, checkpoints)
    classes = _classes(reference, shape)
    labels = recipe.labels or tuple(str(i) for i in range(classes))
    if len(labels) != classes:
        raise RecipeError(f"labels: {len(labels)} names, but the model has {classes} outputs.")
    highest = int(max(data.labels.max(), test.labels.max()))
    if highest >= classes:
        raise DataError(f"The data holds class {highest}, but the model has {classes} outputs.")
    return Prepared(recipe, reference, splits, test, preprocessing, labels, digests, runtime, checkpoints)


def _classes(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Run one input of zeros through the model and return the number of its logits."""
    try:
        with torch.no_grad():
            logits = model(torch.zeros(1, *shape))
    except RuntimeError as error:
        raise RecipeError(f"model.input_shape {list(shape)} does not fit the model: {error}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 1:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise RecipeError(f"The model returns {found}, expected logits of shape (N, classes).")
    return int(logits.shape[1])
