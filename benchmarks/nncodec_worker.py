"""Encode and decode a network's arrays with NNCodec, in a virtual environment of its own (see `post_training`).

    python nncodec_worker.py WEIGHTS.npz OUT_FOLDER NONWEIGHT_QP QP...

writes OUT_FOLDER/QP.npz with the decoded arrays and OUT_FOLDER/QP.bytes with the length of the bitstream. Dependent
quantization is on. Stands alone: it sees neither clearweight nor the other benchmarks.
"""

import sys
from pathlib import Path

import numpy as np
from nncodec.nn import decode, encode


def main(weights: str, out: str, nonweight: str, *qps: str) -> None:
    """Encode at every qp."""
    arrays = dict(np.load(weights))
    folder = Path(out)
    for qp in qps:
        args = {"qp": int(qp), "use_dq": True, "nonweight_qp": int(nonweight), "results": str(folder)}
        stream = encode({name: values.copy() for name, values in arrays.items()}, args=args)
        back = decode(stream)
        np.savez(folder / f"{qp}.npz", **{name: np.asarray(back[name], dtype=np.float32) for name in arrays})
        (folder / f"{qp}.bytes").write_text(str(len(stream)))


if __name__ == "__main__":
    main(*sys.argv[1:])
