import numpy as np
import torch
from torch import nn

from clearweight.exporter.explain import build
from clearweight.exporter.graph import session, to_onnx


def test_the_gradient_of_one_logit_reads_one_row_of_a_large_decision_layer():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 512), nn.Tanh(), nn.Linear(512, 600)).eval()
    module.requires_grad_(requires_grad=False)
    model = to_onnx(module, torch.zeros(2, 3, 4))
    made = build(model, "gradient").model
    x = np.random.default_rng(0).normal(size=(4, 3, 4)).astype(np.float32)
    target = np.array([599, 0, -1, 600])
    feed = {model.graph.input[0].name: x, "target": target}
    explain, logits = session(made).run(["explain", "logits"], feed)

    source = torch.tensor(x, requires_grad=True)
    aim = module(source)
    aim[torch.arange(3), [599, 0, int(logits[2].argmax())]].sum().backward()
    assert "Gather" in {node.op_type for node in made.graph.node}
    np.testing.assert_allclose(explain[:3], source.grad.numpy()[:3], rtol=1e-4, atol=1e-6)
    assert np.isnan(explain[3]).all()
