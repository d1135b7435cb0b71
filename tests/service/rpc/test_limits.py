"""gRPC's own bounds: messages that explode when decompressed, metadata without end, too many connections."""

import grpc
import pytest

from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from tests.service.conftest import LIMITS
from tests.service.rpc.test_oip import fails

MIB = 1 << 20


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_message_that_explodes_is_refused(channel, compression):
    # 64 MiB of zeros are 64 KiB on the wire, below the limit, and far above it when unpacked.
    bomb = oip.ModelInferRequest(model_name="tiny", raw_input_contents=[bytes(64 * MIB)])
    assert LIMITS.body_bytes < MIB
    infer = oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer
    fails(lambda: infer(bomb, compression=compression, timeout=30), grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_metadata_without_end_is_refused(channel):
    infer = oip_grpc.GRPCInferenceServiceStub(channel).ServerLive
    with pytest.raises(grpc.RpcError) as refused:
        infer(oip.ServerLiveRequest(), metadata=(("x-note", "a" * 200_000),), timeout=30)
    assert refused.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
