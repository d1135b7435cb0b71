"""What a caller can know of a model before asking: what it takes and gives, who made it, how it can be explained."""

from clearweight.artifact import preprocessing
from clearweight.service.core.errors import UnavailableError
from clearweight.service.core.explainer_metadata import explainer_properties
from clearweight.service.core.slot import Slot
from clearweight.service.core.types import ModelMetadata

_PLATFORM = "onnx_onnxv1"


def describe(slot: Slot, versions: list[str]) -> ModelMetadata:
    """Describe one version of a model.

    Parameters
    ----------
    versions : all that are known of this model

    Raises
    ------
    UnavailableError
        It could not be loaded, so nobody knows what it takes.
    """
    if slot.model is None:
        raise UnavailableError(f"Model {slot.name!r} version {slot.version!r} is not loaded. {slot.reason}")
    manifest = slot.model.manifest
    white = preprocessing.white(manifest.preprocessing)
    properties = {
        "variant": manifest.variant,
        "model_sha256": manifest.manifest_sha256,
        "raw_datatype": manifest.preprocessing.raw_datatype,
        **({} if white is None else {"white": f"{white:g}"}),
        "explainers": ",".join(manifest.explainers),
        "default_explainer": manifest.default_explainer or "",
        "fidelity": slot.model.fidelity.state,
        **explainer_properties(manifest),
    }
    return ModelMetadata(slot.name, tuple(versions), _PLATFORM, manifest.inputs, manifest.outputs, properties)
