"""Cases of attention as one operator, and of the rotation of queries and keys."""

import numpy as np
import torch
from torch.nn import functional

from tests.exporter.autodiff.case import Case

BY_HEADS = (2, 3, 4, 8)
SHOWN = np.array([[True, False, True, True]] * 2 + [[True, True, True, False]] * 2)
ANGLES = np.random.default_rng(3).uniform(-3, 3, (5, 4))


def attention(shapes, attrs=None, *, mask=None, **oracle):
    """``oracle``: settings of torch's own function, which takes queries, keys and values by heads."""
    attrs = attrs or {}
    settings = {} if mask is None else {3: mask}
    heads = attrs.get("q_num_heads"), attrs.get("kv_num_heads")

    def run(q, k, v, *_):
        flat = q.ndim == 3
        if flat:
            q, k, v = (
                t.unflatten(2, (count, -1)).transpose(1, 2)
                for t, count in ((q, heads[0]), (k, heads[1]), (v, heads[1]))
            )
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        given = None if mask is None else torch.tensor(mask)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=given, **oracle)
        return y.transpose(1, 2).flatten(2) if flat else y

    free = tuple((index, 0) for index in range(3))
    return Case(
        "Attention", shapes, attrs, settings=settings, oracle=run, free=free, opset=23, tol=1e-6, step=1e-4
    )


def turned(x, *, interleaved):
    """Each pair of channels as a complex number, turned; x [N, heads, L, D]."""
    angle = torch.tensor(ANGLES[: x.shape[2]].astype(np.float32)).double()
    if interleaved:
        a, b = x[..., ::2], x[..., 1::2]
    else:
        a, b = x.chunk(2, -1)
    cosine, sine = angle.cos(), angle.sin()
    real, imaginary = a * cosine - b * sine, a * sine + b * cosine
    return torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)


def rotary(*, interleaved):
    angle = np.repeat(ANGLES[None, :4].astype(np.float32), 2, axis=0)
    return Case(
        "RotaryEmbedding",
        (BY_HEADS,),
        {"interleaved": int(interleaved)},
        settings={1: np.cos(angle), 2: np.sin(angle)},
        oracle=lambda x: turned(x, interleaved=interleaved),
        free=(),
        opset=23,
    )


ATTENTION_CASES = [
    attention((BY_HEADS, BY_HEADS, BY_HEADS)),
    attention((BY_HEADS, (2, 3, 5, 8), (2, 3, 5, 6)), {"scale": 0.3}, scale=0.3),
    attention((BY_HEADS, BY_HEADS, BY_HEADS), {"is_causal": 1}, is_causal=True),
    attention((BY_HEADS, BY_HEADS, BY_HEADS), mask=SHOWN),
    attention((BY_HEADS, BY_HEADS, BY_HEADS), mask=np.linspace(-1, 1, 16).reshape(4, 4)),
    attention(((2, 4, 5, 6), (2, 2, 5, 6), (2, 2, 5, 6))),  # two heads of queries share one of keys
    attention(((2, 5, 12), (2, 4, 6), (2, 4, 8)), {"q_num_heads": 4, "kv_num_heads": 2}),
    rotary(interleaved=False),
    rotary(interleaved=True),
]
