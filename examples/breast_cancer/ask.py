"""Ask the service for one tumour's class, and which measurements spoke for it: ``python ask.py [URL]``."""

import sys

from sklearn.datasets import load_breast_cancer
from tumours import measurements

from clearweight.client import Client

names = load_breast_cancer().feature_names
values, classes = measurements("test")
with Client(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080") as client:
    # Raw measurements, which the service scales as the recipe says.
    found = client.explain(values[:1], classification=1, preprocess=True)

likeliest = found.classes[0][0]
print(f"true class {classes[0]}; answer {likeliest.label} ({likeliest.probability:.3f})")
strongest = sorted(zip(found.map[0], names, values[0], strict=True), key=lambda one: -abs(one[0]))
for weight, name, value in strongest[:5]:
    print(f"{weight:+6.2f}  {name} = {value:.4g}")
print({key: found.parameters[key] for key in ("method", "fidelity", "drift_state")})
