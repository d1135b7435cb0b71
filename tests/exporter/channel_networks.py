"""Networks whose channels are tied in every way that occurs: residual, strided with padding, depthwise, gated."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """Two blocks with BatchNorm round shortcuts: one plain, one strided whose channels are padded with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.inner1, self.norm1 = nn.Conv2d(6, 5, 3, padding=1, bias=False), nn.BatchNorm2d(5)
        self.outer1, self.norm2 = nn.Conv2d(5, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.inner2 = nn.Conv2d(6, 7, 3, stride=2, padding=1)
        self.outer2 = nn.Conv2d(7, 10, 3, padding=1)
        self.fc = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        h = functional.relu(self.norm1(self.inner1(x)))
        x = functional.relu(x + self.norm2(self.outer1(h)))
        h = self.outer2(functional.relu(self.inner2(x)))
        x = functional.relu(h + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Mobile(nn.Module):
    """Pointwise, depthwise (with a multiplier), grouped convolution; flattened with its places."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(2, 8, 1)
        self.depth = nn.Conv2d(8, 16, 3, groups=8, padding=1)
        self.grouped = nn.Conv2d(16, 12, 3, groups=4, padding=1)
        self.last = nn.Conv2d(12, 6, 1)
        self.fc1 = nn.Linear(6 * 9, 11)
        self.fc2 = nn.Linear(11, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu6(self.depth(functional.relu6(self.point(x))))
        x = functional.max_pool2d(functional.leaky_relu(self.last(functional.relu(self.grouped(x)))), 2)
        return self.fc2(torch.tanh(self.fc1(x.reshape(x.shape[0], -1))))


class Gated(nn.Module):
    """A squeeze-and-excitation gate, and two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(2, 4, 1)
        self.squeeze, self.excite = nn.Linear(9, 3), nn.Linear(3, 9)
        self.last = nn.Conv2d(9, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(torch.cat([self.left(x), self.right(x)], 1))
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3))))))
        x = functional.relu(self.last(x * gate[:, :, None, None]))
        return self.fc(x.mean((2, 3)))


class Sigmoidal(nn.Module):
    """A dropped filter is not silent behind a sigmoid: its channels must stay."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.last = nn.Conv2d(5, 6, 3)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(functional.relu(self.last(torch.sigmoid(self.conv(x)))).mean((2, 3)))


KINDS = {"residual": Residual, "mobile": Mobile, "gated": Gated, "sigmoidal": Sigmoidal}
SHAPE = (2, 6, 6)


def made(kind: str, seed: int = 0) -> nn.Module:
    """Return a network with drawn weights and drawn running statistics, in evaluation mode."""
    torch.manual_seed(seed)
    model = KINDS[kind]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()
