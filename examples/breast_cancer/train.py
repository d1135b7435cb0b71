"""A user's own training, without clearweight: writes tumours.safetensors, and prints what inputs are scaled by."""

import torch
from safetensors.torch import save_file
from torch.nn import functional
from tumours import measurements, network

torch.manual_seed(0)
values, classes = map(torch.from_numpy, measurements("train"))
mean, spread = values.mean(0), values.std(0)
inputs = (values - mean) / spread

model = network()
optimizer = torch.optim.Adam(model.parameters(), 0.003, weight_decay=1e-4)
for _ in range(150):
    optimizer.zero_grad()
    functional.cross_entropy(model(inputs), classes).backward()
    optimizer.step()

save_file(model.state_dict(), "tumours.safetensors")
for name, row in (("mean", mean), ("std", spread)):
    print(f"{name}: [{', '.join(f'{value:.5g}' for value in row.tolist())}]")
