"""Building blocks as torch.onnx writes them today, opset by opset: their gradient is torch's, or the error names them.

A group of functions is exported as one network with one logit for each function, so that the gradient of a logit is
that of one function alone.
"""

import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from clearweight.exporter.autodiff import UnsupportedOpError
from clearweight.exporter.explain import build
from clearweight.exporter.graph import session
from clearweight.exporter.own_model import prepare

ELEMENTWISE = [
    torch.sin,
    torch.cos,
    torch.tan,
    torch.atan,
    torch.sinh,
    torch.cosh,
    torch.asinh,
    torch.erf,
    torch.erfc,
    torch.exp2,
    torch.expm1,
    torch.square,
    torch.neg,
    torch.sigmoid,
    torch.tanh,
    functional.gelu,
    functional.silu,
    functional.mish,
    functional.hardswish,
    functional.hardsigmoid,
    functional.relu6,
    functional.elu,
    functional.selu,
    functional.celu,
    functional.softplus,
    functional.softsign,
    functional.logsigmoid,
    functional.softshrink,
    functional.hardshrink,
    functional.tanhshrink,
    functional.hardtanh,
    functional.leaky_relu,
    torch.frac,
    lambda x: torch.asin(0.9 * x.tanh()),
    lambda x: torch.acos(0.9 * x.tanh()),
    lambda x: torch.atanh(0.9 * x.tanh()),
    lambda x: torch.acosh(x.abs() + 1.5),
    lambda x: torch.log1p(x.abs()),
    lambda x: torch.rsqrt(x.abs() + 1),
    lambda x: torch.atan2(x, x.abs() + 1),
    lambda x: torch.fmod(x, 1.3),
    lambda x: torch.remainder(x, 1.3),
    lambda x: functional.threshold(x, 0.1, 2.0),
    lambda x: functional.gelu(x, approximate="tanh"),
    lambda x: functional.glu(torch.cat([x, x * x], 1)),
]
SEQUENCES = [
    lambda x: x.cumsum(1),
    lambda x: x.prod(1),
    lambda x: x.var(1),
    lambda x: x.norm(dim=1),
    lambda x: x.logsumexp(1),
    lambda x: x.topk(3, dim=1).values[:, 1:],
    lambda x: x.sort(dim=1).values[:, 2],
    lambda x: x.amax(1),
    lambda x: x.flip(1),
    lambda x: x.gather(1, x.argmax(1, keepdim=True)),
    lambda x: x.repeat_interleave(2, 1),
    lambda x: x.roll(2, 1),
    lambda x: torch.einsum("bnc,bmc->bnm", x, x),
    lambda x: functional.cosine_similarity(x[:, :3], x[:, 3:], dim=-1),
    lambda x: functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True)[
        :, :, 2:
    ],
    lambda x: functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None] ** 2),
    lambda x: functional.rms_norm(x, (8,)),
    lambda x: functional.layer_norm(x, (8,)) ** 3,
    lambda x: x.tril(),
    lambda x: x.min(dim=1).values,
    lambda x: x.softmax(-1)[..., :3],
    lambda x: x.masked_fill(x < 0, 0.0),
]
IMAGES = [
    lambda x: functional.interpolate(x, scale_factor=2, mode="bicubic"),
    lambda x: functional.interpolate(x, size=(11, 5), mode="bilinear"),
    lambda x: functional.interpolate(x, size=(11, 11), mode="bicubic", align_corners=True),
    lambda x: functional.adaptive_avg_pool2d(x, 3),
    lambda x: functional.fold(x.flatten(2)[..., :16], (8, 8), 2, stride=2) ** 2,
    lambda x: functional.pixel_shuffle(x, 2)[:, :, 3:],
    lambda x: functional.pixel_unshuffle(x, 2)[:, 5:],
    lambda x: functional.lp_pool2d(x.abs(), 2, 2),
    lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    lambda x: functional.max_pool2d(x, 3, 2, 1),
    lambda x: functional.pad(x, (1, 1, 2, 0), mode="replicate")[..., :3],
    lambda x: functional.pad(x, (1, 1, 2, 0), mode="circular")[..., :2],
    lambda x: functional.pad(x, (2, 1, 1, 1), mode="reflect")[..., :4],
    lambda x: functional.group_norm(x, 2) ** 3,
    lambda x: functional.local_response_norm(x, 3),
    lambda x: x.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3),
    lambda x: x.flatten(2).softmax(-1)[..., ::5],
]
GROUPS = {"elementwise": ((6,), ELEMENTWISE), "sequences": ((6, 8), SEQUENCES), "images": ((4, 8, 8), IMAGES)}
REFUSED = {
    "GridSample": (
        (4, 6, 6),
        lambda x: functional.grid_sample(x, x[:, :2, :3, :3].permute(0, 2, 3, 1).tanh(), align_corners=False),
    ),
    "LSTM": ((6, 8), nn.LSTM(8, 4, batch_first=True)),
    "GRU": ((6, 8), nn.GRU(8, 4, batch_first=True)),
}


class Logits(nn.Module):
    """[N, K]: one number for each function, a weighted mean of what it returns."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions
        self.inner = nn.ModuleList(f for f in functions if isinstance(f, nn.Module))

    def forward(self, x):
        def score(function):
            made = function(x)
            flat = (made[0] if isinstance(made, tuple) else made).flatten(1)
            return flat @ torch.linspace(0.5, 1.5, flat.shape[1])

        return torch.stack([score(function) for function in self.functions], 1)


def exported(module, x, opset):
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (x,),
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            verbose=False,
        )
    logger.setLevel(level)
    model = program.model_proto
    model.graph.input[0].name, old = "input", model.graph.input[0].name
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = "input" if name == old else name
    return model


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 23])
@pytest.mark.parametrize("group", GROUPS)
def test_gradients_of_what_torch_exports_are_torchs(group, opset):
    shape, functions = GROUPS[group]
    torch.manual_seed(1)
    module = Logits(functions).eval()
    x = torch.randn(2, *shape)
    graph = build(prepare(exported(module, x, opset)).classifier, "gradient").model
    running = session(graph)

    for index in range(len(functions)):
        leaf = x.clone().requires_grad_()
        module(leaf)[:, index].sum().backward()
        feed = {"input": x.numpy(), "target": np.full(2, index)}
        found = running.run(["explain"], feed)[0]
        scale = max(1.0, float(leaf.grad.abs().max()))
        np.testing.assert_allclose(found, leaf.grad, atol=2e-4 * scale, err_msg=f"{group} {index}")


@pytest.mark.parametrize("op", REFUSED)
def test_what_has_no_gradient_is_refused_by_name(op):
    shape, function = REFUSED[op]
    model = exported(Logits([function, torch.sin]).eval(), torch.randn(2, *shape), 18)
    assert op in {node.op_type for node in model.graph.node}

    with pytest.raises(UnsupportedOpError, match=f"No VJP rule for {op}-"):
        build(prepare(model).classifier, "gradient")
