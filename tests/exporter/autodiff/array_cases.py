"""Cases of operators that expand, cut, pick, mask, accumulate and resize."""

from itertools import product

import numpy as np
import torch
from torch.nn import functional

from tests.exporter.autodiff.case import Case, distinct, ints

EXPAND = [
    Case("Expand", ((2, 1, 4),), settings={1: ints(1, 3, 1)}, oracle=lambda x: x.expand(-1, 3, -1)),
    Case("Expand", ((3, 1),), settings={1: ints(2, 3, 4)}, oracle=lambda x: x.expand(2, 3, 4), free=()),
    Case("Expand", ((1, 3),), settings={1: ints(5, 3)}, oracle=lambda x: x.expand(5, 3), free=()),
]
TILE = [
    Case("Tile", ((2, 3, 4),), settings={1: ints(1, 2, 3)}, oracle=lambda x: x.repeat(1, 2, 3)),
    Case("Tile", ((2, 3),), settings={1: ints(3, 1)}, oracle=lambda x: x.repeat(3, 1), free=()),
    Case("Tile", ((2, 3),), settings={1: ints(1, 1)}, oracle=torch.clone),
]
BLOCKS = [
    Case("DepthToSpace", ((2, 12, 2, 3),), {"blocksize": 2, "mode": "DCR"}),
    Case("DepthToSpace", ((2, 12, 2, 3),), {"blocksize": 2}),
    Case(
        "DepthToSpace",
        ((2, 18, 2, 3),),
        {"blocksize": 3, "mode": "CRD"},
        oracle=lambda x: functional.pixel_shuffle(x, 3),
    ),
    Case("SpaceToDepth", ((2, 3, 4, 6),), {"blocksize": 2}),
]


def split(shape, axis, sizes, opset=18, equal=False):
    attrs = {"axis": axis, **({"num_outputs": len(sizes)} if equal and opset >= 18 else {})}
    return Case(
        "Split",
        (shape,),
        attrs,
        settings={} if equal else {1: ints(*sizes)},
        oracle=lambda x: x.split(sizes, axis),
        opset=opset,
        outputs=len(sizes),
    )


SPLIT = [
    split((2, 7, 3), 1, (2, 4, 1)),
    split((2, 3, 6), -1, (3, 3), equal=True),
    split((2, 3, 7), -1, (3, 3, 1), equal=True),  # the last part is smaller
    split((2, 7, 3), 1, (2, 4, 1), opset=17),
    split((2, 6), 1, (3, 3), opset=17, equal=True),
]


def gather(shape, indices, axis, oracle, **given):
    return Case("Gather", (shape,), {"axis": axis}, settings={1: np.array(indices)}, oracle=oracle, **given)


GATHER = [
    gather((2, 5, 3), 0, 1, lambda x: x[:, 0]),  # the class token
    gather((2, 5, 3), -1, 1, lambda x: x[:, -1]),
    gather((2, 5, 3), [1, 2, 3], 1, lambda x: x[:, 1:4]),  # a run
    gather((2, 5, 3), [4, 0, 2], 1, lambda x: x[:, [4, 0, 2]]),
    gather((2, 3, 5), [4, 3, 2, 1, 0], -1, lambda x: x.flip(-1)),  # a permutation
    gather((2, 5, 3), [1, 1, -1, 1], 1, lambda x: x[:, [1, 1, -1, 1]]),  # repeats
    gather((2, 5, 3), [[0, 4], [2, 1]], 1, lambda x: x[:, [[0, 4], [2, 1]]]),
    gather((4, 3), [2, 0], 0, lambda x: x[[2, 0]], free=()),
]
PLACES = np.array([[[0, 2, 2], [1, 0, 2]], [[2, 2, 2], [0, 1, 0]]])
ELEMENTS = [
    Case(
        "GatherElements",
        ((2, 3, 3),),
        {"axis": 1},
        settings={1: PLACES},
        oracle=lambda x: x.gather(1, torch.tensor(PLACES)),
    ),
    Case(
        "GatherND",
        ((2, 3, 4),),
        settings={1: ints([0, 1], [1, 2], [0, 1])},
        oracle=lambda x: x[[0, 1, 0], [1, 2, 1]],
        free=(),
    ),
]
ONCE = np.array([[[0, 2, 1], [1, 0, 2]], [[2, 1, 0], [0, 2, 1]]])  # along axis 1 no place twice


def scattered(reduction):
    def elements(x, u):
        index = torch.tensor(ONCE)
        return x.scatter_add(1, index, u) if reduction == "add" else x.scatter(1, index, u)

    def places(x, u):
        y = x.clone()
        y[[0, 1], [1, 2]] = u + (x[[0, 1], [1, 2]] if reduction == "add" else 0)
        return y

    attrs = {} if reduction == "none" else {"reduction": reduction}
    return [
        Case(
            "ScatterElements",
            ((2, 3, 3), (2, 2, 3)),
            {"axis": 1, **attrs},
            settings={1: ONCE},
            oracle=elements,
            free=(),
        ),
        Case(
            "ScatterND",
            ((2, 3, 4), (2, 4)),
            attrs,
            settings={1: ints([0, 1], [1, 2])},
            oracle=places,
            free=(),
        ),
    ]


SCATTERED = [case for reduction in ("none", "add") for case in scattered(reduction)]
RANKED = [
    Case(
        "TopK",
        ((2, 5, 3),),
        {"axis": 1, "largest": largest},
        sampler=distinct,
        settings={1: ints(2)},
        oracle=lambda x, largest=largest: x.topk(2, 1, largest=bool(largest)).values,
        places=1,
    )
    for largest in (1, 0)
]
REVERSED = [
    Case(
        "ReverseSequence",
        ((3, 4, 2),),
        {"batch_axis": 0, "time_axis": 1},
        settings={1: ints(2, 4, 1)},
        oracle=lambda x: torch.stack([x[0][[1, 0, 2, 3]], x[1].flip(0), x[2]]),
        free=(),
    )
]
UNPOOLED = [
    Case(
        "MaxUnpool",
        ((1, 1, 2, 2),),
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        settings={1: ints(1, 6, 8, 15).reshape(1, 1, 2, 2)},
        oracle=lambda x: functional.max_unpool2d(x, torch.tensor([1, 6, 8, 15]).reshape(1, 1, 2, 2), 2),
        free=(),
    )
]
FOLDED = [
    Case(
        "Col2Im",
        ((2, 8, 16),),
        {"strides": [2, 1], "pads": [1, 0, 1, 0], "dilations": [1, 2]},
        settings={1: ints(6, 6), 2: ints(2, 2)},
        oracle=lambda x: functional.fold(x, (6, 6), 2, dilation=(1, 2), padding=(1, 0), stride=(2, 1)),
        free=(),
    ),
    Case(
        "Col2Im",
        ((2, 8, 9),),
        settings={1: ints(4, 4), 2: ints(2, 2)},
        oracle=lambda x: functional.fold(x, (4, 4), 2),
    ),
]
TRIANGLES = [
    Case("Trilu", ((2, 4, 5),), oracle=torch.triu),
    Case("Trilu", ((2, 4, 5),), {"upper": 0}, settings={1: np.array(-1)}, oracle=lambda x: torch.tril(x, -1)),
]


def cumulative(exclusive, reverse):
    def run(x):
        x = x.flip(1) if reverse else x
        y = x.cumsum(1) - (x if exclusive else 0)
        return y.flip(1) if reverse else y

    attrs = {"exclusive": exclusive, "reverse": reverse}
    return Case("CumSum", ((2, 5, 3),), attrs, settings={1: np.array(1)}, oracle=run)


CUMULATIVE = [cumulative(exclusive, reverse) for exclusive, reverse in product((0, 1), (0, 1))]


def resize(shape, *, scales=None, sizes=None, mode, transform, nearest="floor", oracle=None, **given):
    attrs = {"mode": mode, "coordinate_transformation_mode": transform, "nearest_mode": nearest, **given}
    opset = attrs.pop("opset", 18)
    settings = {2: np.array(scales)} if sizes is None else {3: ints(*sizes)}
    free = ((0, 0),) if sizes is None else ()
    return Case("Resize", (shape,), attrs, settings=settings, oracle=oracle, opset=opset, free=free)


def interpolate(mode, align=None, **given):
    return lambda x: functional.interpolate(x, mode=mode, align_corners=align, **given)


IMAGE, SERIES = (2, 3, 4, 5), (2, 3, 7)
RESIZE = [
    # Whole repetition: average pooling.
    resize(
        IMAGE,
        scales=[1.0, 1.0, 2.0, 3.0],
        mode="nearest",
        transform="asymmetric",
        oracle=interpolate("nearest", scale_factor=(2.0, 3.0)),
    ),
    resize(SERIES, scales=[1.0, 1.0, 2.0], mode="nearest", transform="asymmetric"),
    resize(
        IMAGE,
        scales=[1.0, 1.0, 1.0, 2.0],
        mode="nearest",
        transform="half_pixel",
        nearest="round_prefer_ceil",
    ),
    # Nearest neighbours at any scale.
    resize(IMAGE, scales=[1.0, 1.0, 1.5, 0.6], mode="nearest", transform="asymmetric"),
    *(
        resize(IMAGE, scales=[1.0, 1.0, 1.7, 0.6], mode="nearest", transform=transform, nearest=nearest)
        for transform, nearest in product(
            ("half_pixel", "align_corners", "asymmetric"),
            ("round_prefer_floor", "round_prefer_ceil", "ceil"),
        )
    ),
    # Linear.
    resize(
        IMAGE,
        scales=[1.0, 1.0, 2.0, 2.0],
        mode="linear",
        transform="half_pixel",
        oracle=interpolate("bilinear", align=False, scale_factor=2.0),
    ),
    resize(
        IMAGE,
        sizes=(2, 3, 7, 9),
        mode="linear",
        transform="align_corners",
        oracle=interpolate("bilinear", align=True, size=(7, 9)),
    ),
    resize(
        IMAGE,
        sizes=(2, 3, 3, 2),
        mode="linear",
        transform="half_pixel",
        oracle=interpolate("bilinear", align=False, size=(3, 2)),
    ),
    resize(
        SERIES,
        sizes=(2, 3, 10),
        mode="linear",
        transform="pytorch_half_pixel",
        oracle=interpolate("linear", align=False, size=10),
    ),
    resize(IMAGE, sizes=(2, 3, 1, 9), mode="linear", transform="align_corners"),
    resize(
        IMAGE,
        scales=[1.0, 1.0, 2.0, 2.0],
        mode="cubic",
        transform="half_pixel",
        oracle=lambda x: functional.interpolate(x, scale_factor=2.0, mode="bicubic"),
    ),
    resize(
        IMAGE,
        sizes=(2, 3, 7, 9),
        mode="cubic",
        transform="align_corners",
        oracle=lambda x: functional.interpolate(x, (7, 9), mode="bicubic", align_corners=True),
    ),
    resize(IMAGE, scales=[1.0, 1.0, 1.7, 0.6], mode="cubic", transform="asymmetric", exclude_outside=1),
    resize(IMAGE, scales=[1.0, 1.0, 1.3, 2.6], mode="linear", transform="asymmetric"),
    resize(IMAGE, scales=[1.0, 1.0, 1.3, 2.6], mode="linear", transform="half_pixel_symmetric", opset=19),
    resize((2, 3, 4, 5, 2), sizes=(2, 3, 6, 5, 4), mode="linear", transform="half_pixel"),
    Case(
        "Resize",
        (IMAGE,),
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]},
        settings={3: ints(6, 10)},
    ),
    resize(IMAGE, scales=[1.0, 1.0, 2.0, 2.0], mode="linear", transform="half_pixel", opset=16),
]

WRAPPED = [
    Case(
        "Pad",
        ((2, 3, 5),),
        {"mode": "wrap"},
        settings={1: ints(0, 0, 2, 0, 0, 3)},
        oracle=lambda x: functional.pad(x, (2, 3), "circular"),
        opset=19,
    )
]

ARRAY_CASES = [
    *EXPAND,
    *TILE,
    *BLOCKS,
    *SPLIT,
    *GATHER,
    *ELEMENTS,
    *SCATTERED,
    *FOLDED,
    *RANKED,
    *REVERSED,
    *UNPOOLED,
    *TRIANGLES,
    *CUMULATIVE,
    *RESIZE,
    *WRAPPED,
]
