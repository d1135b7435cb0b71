"""Transport-free: types, checks, models, the engine. Needs numpy and ONNX Runtime, nothing of any transport."""
