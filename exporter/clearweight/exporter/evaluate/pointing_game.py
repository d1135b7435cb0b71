"""The pointing game: whether a map's strongest place lies on what the class stands for.

Zhang et al., Top-down Neural Attention by Excitation Backprop, IJCV 2018, section 4.2: a hit if the maximum lies inside
the mask of the object, or within ``tolerance`` places of it (theirs is 15 pixels). The score is the share of hits. A
mask says where a person sees the class, not where the model looks: read it beside measures that ask the model.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clearweight.exporter.errors import DataError
from clearweight.exporter.evaluate.attribution import Map
from clearweight.exporter.evaluate.faithfulness import has_order
from clearweight.exporter.evaluate.similarity import Values


def pointing_game(maps: Map, masks: NDArray[np.bool_], *, tolerance: int = 0) -> Values:
    """Score each map 1 for a hit and 0 for a miss.

    Parameters
    ----------
    maps : (N, *space), channels summed; the maximum is of the signed map, ties go to the lower index
    masks : bool, (N, *space), where the explained class is
    tolerance : places round the maximum, along each axis, in which the mask may begin

    Returns
    -------
    float64, (N,); NaN where the map is zero or not finite, or the mask is empty

    Raises
    ------
    DataError
        Masks of another shape or type.
    """
    if masks.shape != maps.shape or masks.dtype != np.bool_:
        raise DataError(
            f"Masks have shape {masks.shape} and type {masks.dtype}, expected {maps.shape} and bool: one for each map."
        )
    hits = []
    for one, mask in zip(maps, masks, strict=True):
        near = (
            mask if tolerance == 0 else ndimage.maximum_filter(mask, size=2 * tolerance + 1, mode="constant")
        )
        hits.append(float(near.reshape(-1)[np.argmax(np.nan_to_num(one.reshape(-1)))]))
    defined = has_order(maps) & masks.reshape(len(masks), -1).any(1)
    return np.where(defined, np.array(hits, dtype=np.float64), np.nan)
