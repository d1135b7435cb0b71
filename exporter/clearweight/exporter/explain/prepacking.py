"""Whether a session over an explain graph should lay its weights out anew when it loads the graph.

ONNX Runtime does so for every constant operand of a product, once for each direction in which it is read. A full layer
that is read on the way forth and on the way back is then there twice, and what a cache would have held is read from
memory twice. Convolutions in the blocked layout are not concerned.
"""

from math import prod

import onnx


def mostly_dense(model: onnx.ModelProto, *, rows: int) -> bool:
    """Tell whether most parameters are weights of full layers that are read twice, one row of data for each input.

    Parameters
    ----------
    rows : how many rows go through the network for one input; with several a packed weight pays at any batch size
    """
    sizes = {tensor.name: prod(tensor.dims) for tensor in model.graph.initializer}
    reads = [node.input[1] for node in model.graph.node if node.op_type == "Gemm"]
    twice = {name for name in reads if reads.count(name) > 1 and name in sizes}
    return rows == 1 and 2 * sum(sizes[name] for name in twice) > sum(sizes.values())
