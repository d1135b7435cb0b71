"""The REST application: routes and nothing else; bodies are read and written by ``oip`` and ``v1``."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version as installed_version

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clearweight.service.core.dataplane import NAME, Dataplane
from clearweight.service.core.errors import InvalidRequestError
from clearweight.service.core.parameters import TARGET
from clearweight.service.core.presentation import KINDS, PICTURE, PICTURE_SCALE, Presentation
from clearweight.service.core.types import InferRequest, InferResponse, ModelMetadata
from clearweight.service.rest import multipart, oip, v1
from clearweight.service.rest.body import read_body
from clearweight.service.rest.documents import openapi
from clearweight.service.rest.endpoint import Row, json_response, routes
from clearweight.service.rest.errors import answer_http_error, error_body, error_response
from clearweight.service.rest.patience import bound

Exposition = Callable[[str], tuple[bytes, str]]
"""(Accept header) -> (metrics text, its content type)."""


def create_app(plane: Dataplane, metrics: Exposition | None = None) -> FastAPI:
    """Build the application over a dataplane."""
    # The documentation pages of FastAPI load their scripts from elsewhere; ours works without a network.
    app = FastAPI(
        title=NAME,
        version=installed_version("clearweight"),
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(HTTPException, answer_http_error)
    table = _Rest(plane, metrics).table()
    # Ahead of the routes for documentation, and past FastAPI's own handling of arguments: bodies are read here.
    app.router.routes[:0] = routes(table)
    app.openapi = lambda: openapi(app.title, app.version, table, _loaded(plane))  # type: ignore[method-assign]  # FastAPI's own way
    return app


def _loaded(plane: Dataplane) -> list[ModelMetadata]:
    repository = plane.engine.repository
    return [
        plane.engine.metadata(name) for name in repository.names if repository.slot(name).model is not None
    ]


class _Rest:
    """Answers per path."""

    def __init__(self, plane: Dataplane, metrics: Exposition | None) -> None:
        self._plane, self._engine, self._metrics = plane, plane.engine, metrics
        self._presentation = Presentation(plane)
        self._limits = plane.engine.options.limits

    def table(self) -> list[Row]:
        """List what there is; paths are tried in this order, so the busiest stand first."""
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        table = [
            Row("POST", f"{model}/infer", self.infer, "infer"),
            Row("POST", f"{model}/explain", self.explain, "explain"),
            Row("POST", f"{version}/infer", self.infer, "infer"),
            Row("POST", f"{version}/explain", self.explain, "explain"),
            Row("GET", "/v2/health/live", self.live, "live"),
            Row("GET", "/v2/health/ready", self.ready, "ready"),
            Row("GET", "/v2", self.server_metadata, "server"),
            Row("GET", "/v2/", self.server_metadata, "server"),
            Row("GET", "/v2/models", self.models, "models"),
            Row("GET", "/v1/models", self.models, "models"),
            Row("POST", "/v1/models/{model}:predict", self.v1_predict, "v1"),
            Row("POST", "/v1/models/{model}:explain", self.v1_explain, "v1"),
            Row("GET", "/v1/models/{model}", self.v1_model, "model_ready"),
            Row("POST", "/explanations/{model}", self.explain, "explain"),
            Row("POST", "/explanations/{model}/{version}", self.explain, "explain"),
        ]
        for path in (model, version):
            table += [
                Row("GET", path, self.model_metadata, "model"),
                Row("GET", f"{path}/ready", self.model_ready, "model_ready"),
                Row("GET", f"{path}/drift", self.drift, "drift"),
            ]
        if self._metrics is not None:
            table.append(Row("GET", "/metrics", self.metrics, "metrics"))
        return table

    async def live(self, request: Request) -> Response:
        """The process answers."""
        del request
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """Every model serves and new work is welcome."""
        del request
        if not self._plane.ready:
            return error_body(503, self._why_not_ready())
        return json_response({"ready": True, "live": True})

    def _why_not_ready(self) -> str:
        if not self._plane.staying:
            return "The service is shutting down."
        slots = [self._engine.repository.slot(name) for name in self._engine.repository.names]
        return " ".join(
            f"Model {slot.name!r} is not ready. {slot.reason}" for slot in slots if not slot.ready
        )

    async def server_metadata(self, request: Request) -> Response:
        """Name, version and extensions of the server."""
        del request
        return json_response(
            {"name": NAME, "version": installed_version("clearweight"), "extensions": self._plane.extensions}
        )

    async def models(self, request: Request) -> Response:
        """Names of all models."""
        del request
        return json_response({"models": self._engine.repository.names})

    async def model_metadata(self, request: Request) -> Response:
        """What a model takes and gives."""
        return json_response(self._engine.metadata(*_path(request)))

    async def model_ready(self, request: Request) -> Response:
        """Whether one model serves."""
        slot = self._engine.repository.slot(*_path(request))
        if not self._plane.staying:
            return error_body(503, "The service is shutting down.")
        slot.serving()
        return json_response({"name": slot.name, "ready": True})

    async def v1_model(self, request: Request) -> Response:
        """Whether one model serves, in V1's form."""
        return await self.model_ready(request)

    async def drift(self, request: Request) -> Response:
        """Fidelity, integrity and drift of one model."""
        return json_response(self._engine.health(*_path(request)))

    async def metrics(self, request: Request) -> Response:
        """Prometheus exposition."""
        if self._metrics is None:  # the route exists only with metrics
            raise LookupError("No metrics.")
        text, kind = self._metrics(request.headers.get("accept", ""))
        return Response(text, 200, {"Content-Type": kind})

    async def infer(self, request: Request) -> Response:
        """Predict, Open Inference Protocol."""
        return await self._oip(request, "predict")

    async def explain(self, request: Request) -> Response:
        """Explain, bodies of the Open Inference Protocol."""
        return await self._oip(request, "explain")

    async def v1_predict(self, request: Request) -> Response:
        """Predict, KServe V1."""
        return await self._v1(request, "predict")

    async def v1_explain(self, request: Request) -> Response:
        """Explain, KServe V1."""
        return await self._v1(request, "explain")

    async def _oip(self, request: Request, verb: str) -> Response:
        with self._plane.call(verb, "rest") as call:
            try:
                model, version = _path(request)
                bound(call, request)
                self._plane.label(call, model, version)
                headers = dict(request.scope["headers"])
                body = await read_body(request, headers.get(b"content-length"), self._limits.body_bytes)
                asked, form = self._decode(model, version, headers, body)
                wants_png = verb == "explain" and _wants_png(headers)
                if wants_png:
                    asked = replace(asked, parameters={PICTURE: KINDS[0], **asked.parameters})
                answer = await self._presentation.answer(call, asked)
                response = _png(answer) if wants_png else _encoded(*oip.encode_infer(answer, form))
            except Exception as error:  # noqa: BLE001  # every failure becomes its answer, here where it is counted
                response = error_response(error)
            call.code = str(response.status_code)
            return response

    def _decode(
        self, model: str, version: str | None, headers: dict[bytes, bytes], body: bytes
    ) -> tuple[InferRequest, oip.ReplyForm]:
        header = headers.get(oip.HEADER_LENGTH)
        if header == b"0":
            specs = self._engine.metadata(model, version).inputs
            return oip.decode_raw(model, version, specs, body, self._limits)
        content_type = headers.get(b"content-type", b"")
        if content_type.startswith(multipart.TYPE):
            specs = self._engine.metadata(model, version).inputs
            return multipart.decode_form(model, version, specs, content_type, body), oip.ReplyForm()
        return oip.decode_infer(model, version, body, header, self._limits)

    async def _v1(self, request: Request, verb: str) -> Response:
        with self._plane.call(verb, "rest") as call:
            try:
                model, _ = _path(request)
                bound(call, request)
                self._plane.label(call, model, None)
                declared = dict(request.scope["headers"]).get(b"content-length")
                body = await read_body(request, declared, self._limits.body_bytes)
                metadata = self._engine.metadata(model)
                asked: InferRequest = v1.decode_v1(
                    model, metadata.inputs, body, self._limits, explain=verb == "explain"
                )
                answer = await self._presentation.answer(call, asked)
                response = _json_text(v1.encode_v1(answer, [spec.name for spec in metadata.outputs]))
            except Exception as error:  # noqa: BLE001  # every failure becomes its answer, here where it is counted
                response = error_response(error)
            call.code = str(response.status_code)
            return response


def _path(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")


def _json_text(text: bytes) -> Response:
    return Response(text, 200, None, "application/json")


def _encoded(body: bytes, header_length: int | None) -> Response:
    if header_length is None:
        return _json_text(body)
    headers = {"Inference-Header-Content-Length": str(header_length)}
    return Response(body, 200, headers, "application/octet-stream")


def _wants_png(headers: dict[bytes, bytes]) -> bool:
    return headers.get(b"accept", b"").split(b",")[0].split(b";")[0].strip() == b"image/png"


def _png(answer: InferResponse) -> Response:
    found = {tensor.name: tensor.values for tensor in answer.outputs}
    pictures, scales, target = found[PICTURE], found[PICTURE_SCALE], found.get(TARGET)
    if len(pictures) != 1:
        raise InvalidRequestError(
            f"One picture shows one row and there are {len(pictures)}; ask for JSON with the parameter 'picture'."
        )
    headers = {
        "Clearweight-Method": str(answer.parameters["method"]),
        "Clearweight-Picture-Scale": f"{float(scales[0]):.9g}",
        "Clearweight-Model": f"{answer.model}/{answer.version}",
    }
    if target is not None:
        headers["Clearweight-Target"] = str(int(target[0]))
    return Response(bytes(pictures[0]), 200, headers, "image/png")
