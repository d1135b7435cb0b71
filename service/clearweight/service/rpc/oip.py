"""``inference.GRPCInferenceService``: the Open Inference Protocol over gRPC."""

# ruff: noqa: N802  # methods have the names the protocol gives them

import asyncio
from collections.abc import Mapping
from importlib.metadata import version as installed_version
from typing import Any

from clearweight.service.core.dataplane import NAME, Dataplane
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.presentation import Presentation
from clearweight.service.core.validation import check_load, check_unload
from clearweight.service.rpc.errors import code_of
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from clearweight.service.rpc.tensors import decode_infer, encode_infer


class InferenceServicer(oip_grpc.GRPCInferenceServiceServicer):
    """Translates; everything else is the dataplane's."""

    def __init__(self, plane: Dataplane) -> None:
        self._plane, self._engine, self._presentation = plane, plane.engine, Presentation(plane)
        self._limits = plane.engine.options.limits

    async def ServerLive(self, request: oip.ServerLiveRequest, context: Any) -> oip.ServerLiveResponse:
        """The process answers."""
        del request, context
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: Any) -> oip.ServerReadyResponse:
        """Every model serves and new work is welcome."""
        del request, context
        return oip.ServerReadyResponse(ready=self._plane.ready)

    async def ModelReady(self, request: oip.ModelReadyRequest, context: Any) -> oip.ModelReadyResponse:
        """Whether one model serves."""
        del context
        slot = self._engine.repository.slot(request.name, request.version or None)
        return oip.ModelReadyResponse(ready=slot.ready and self._plane.staying)

    async def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: Any
    ) -> oip.ServerMetadataResponse:
        """Name, version and extensions of the server."""
        del request, context
        return oip.ServerMetadataResponse(
            name=NAME, version=installed_version("clearweight"), extensions=self._plane.extensions
        )

    async def ModelMetadata(
        self, request: oip.ModelMetadataRequest, context: Any
    ) -> oip.ModelMetadataResponse:
        """What a model takes and gives."""
        del context
        found = self._engine.metadata(request.name, request.version or None)
        tensor = oip.ModelMetadataResponse.TensorMetadata
        return oip.ModelMetadataResponse(
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=[
                tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in found.inputs
            ],
            outputs=[
                tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape) for spec in found.outputs
            ],
            properties=found.properties,
        )

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:
        """Predict; with the parameter ``explain`` true, explain."""
        del context
        explain = request.parameters.get("explain")
        verb = "explain" if explain is not None and explain.bool_param else "predict"
        with self._plane.call(verb, "grpc") as call:
            call.code = "CANCELLED"  # stands if the caller goes away before anything else is known
            try:
                if explain is not None:
                    _check_flag(explain)
                self._plane.label(call, request.model_name, request.model_version or None)
                asked = decode_infer(request, self._limits)
                answer = await self._presentation.answer(call, asked)
                reply = encode_infer(answer, raw=bool(request.raw_input_contents))
            except Exception as error:
                call.code = code_of(error).name
                raise
            call.code = "OK"
            return reply

    async def RepositoryIndex(
        self, request: oip.RepositoryIndexRequest, context: Any
    ) -> oip.RepositoryIndexResponse:
        """Every model and version, with its state and the reason for it."""
        del context
        return oip.RepositoryIndexResponse(
            models=[
                oip.RepositoryIndexResponse.ModelIndex(
                    name=found.name, version=found.version, state=found.state, reason=found.reason
                )
                for found in self._engine.index()
                if not request.ready or found.state == "READY"
            ]
        )

    async def RepositoryModelLoad(
        self, request: oip.RepositoryModelLoadRequest, context: Any
    ) -> oip.RepositoryModelLoadResponse:
        """Load a model from the repository folder, or load it again."""
        del context
        check_load(request.model_name, _choices(request.parameters))
        await asyncio.to_thread(self._engine.load, request.model_name)
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: oip.RepositoryModelUnloadRequest, context: Any
    ) -> oip.RepositoryModelUnloadResponse:
        """Take a model out of service."""
        del context
        check_unload(request.model_name, _choices(request.parameters))
        await asyncio.to_thread(self._engine.unload, request.model_name)
        return oip.RepositoryModelUnloadResponse()


def _choices(parameters: Mapping[str, oip.ModelRepositoryParameter]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[key] = None if choice is None else getattr(parameter, choice)
    return found


def _check_flag(parameter: oip.InferParameter) -> None:
    if parameter.WhichOneof("parameter_choice") != "bool_param":
        raise InvalidRequestError("Parameter 'explain' is no boolean.")
