"""The REST application: routes and nothing else; bodies are read and written by ``oip`` and ``v1``."""

from collections.abc import Callable
from importlib.metadata import version as installed_version

import orjson
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from clearweight.service.core.dataplane import NAME, Dataplane
from clearweight.service.core.types import InferRequest
from clearweight.service.rest import oip, v1
from clearweight.service.rest.body import read_body
from clearweight.service.rest.documents import document, openapi
from clearweight.service.rest.endpoint import Row, routes
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
    paths: dict[str, dict[str, object]] = {}
    for row in table:
        paths.setdefault(row.path, {})[row.verb.lower()] = document(
            row.path, row.answer.__doc__ or "", row.document
        )
    # Ahead of the routes for documentation, and past FastAPI's own handling of arguments: bodies are read here.
    app.router.routes[:0] = routes(table)
    app.openapi = lambda: openapi(app.title, app.version, paths)  # type: ignore[method-assign]  # FastAPI's own way
    return app


class _Rest:
    """Answers per path."""

    def __init__(self, plane: Dataplane, metrics: Exposition | None) -> None:
        self._plane, self._engine, self._metrics = plane, plane.engine, metrics
        self._limits = plane.engine.options.limits

    def table(self) -> list[Row]:
        """List what there is; paths are tried in this order, so the busiest stand first."""
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        table = [
            Row("POST", f"{model}/infer", self.infer, "oip"),
            Row("POST", f"{model}/explain", self.explain, "oip"),
            Row("POST", f"{version}/infer", self.infer, "oip"),
            Row("POST", f"{version}/explain", self.explain, "oip"),
            Row("GET", "/v2/health/live", self.live),
            Row("GET", "/v2/health/ready", self.ready),
            Row("GET", "/v2", self.server_metadata),
            Row("GET", "/v2/", self.server_metadata),
            Row("GET", "/v2/models", self.models),
            Row("GET", "/v1/models", self.models),
            Row("POST", "/v1/models/{model}:predict", self.v1_predict, "v1"),
            Row("POST", "/v1/models/{model}:explain", self.v1_explain, "v1"),
            Row("GET", "/v1/models/{model}", self.v1_model),
            Row("POST", "/explanations/{model}", self.explain, "oip"),
            Row("POST", "/explanations/{model}/{version}", self.explain, "oip"),
        ]
        for path in (model, version):
            table += [
                Row("GET", path, self.model_metadata),
                Row("GET", f"{path}/ready", self.model_ready),
                Row("GET", f"{path}/drift", self.drift),
            ]
        if self._metrics is not None:
            table.append(Row("GET", "/metrics", self.metrics))
        return table

    async def live(self, request: Request) -> Response:
        """The process answers."""
        del request
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """Every model serves and new work is welcome."""
        del request
        if not self._plane.ready:
            return error_body(503, self._why_not_ready())
        return _json({"ready": True, "live": True})

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
        return _json(
            {"name": NAME, "version": installed_version("clearweight"), "extensions": self._plane.extensions}
        )

    async def models(self, request: Request) -> Response:
        """Names of all models."""
        del request
        return _json({"models": self._engine.repository.names})

    async def model_metadata(self, request: Request) -> Response:
        """What a model takes and gives."""
        return _json(self._engine.metadata(*_path(request)))

    async def model_ready(self, request: Request) -> Response:
        """Whether one model serves."""
        slot = self._engine.repository.slot(*_path(request))
        if not self._plane.staying:
            return error_body(503, "The service is shutting down.")
        slot.serving()
        return _json({"name": slot.name, "ready": True})

    async def v1_model(self, request: Request) -> Response:
        """Whether one model serves, in V1's form."""
        return await self.model_ready(request)

    async def drift(self, request: Request) -> Response:
        """Fidelity, integrity and drift of one model."""
        return _json(self._engine.health(*_path(request)))

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
                self._plane.label(call, model, version)
                bound(call, request)
                headers = dict(request.scope["headers"])
                body = await read_body(request, headers.get(b"content-length"), self._limits.body_bytes)
                header = headers.get(oip.HEADER_LENGTH)
                if header == b"0":
                    specs = self._engine.metadata(model, version).inputs
                    asked, form = oip.decode_raw(model, version, specs, body, self._limits)
                else:
                    asked, form = oip.decode_infer(model, version, body, header, self._limits)
                text, length = oip.encode_infer(await self._plane.answer(call, asked), form)
                response = _json_text(text) if length is None else _binary(text, length)
            except Exception as error:  # noqa: BLE001  # every failure becomes its answer, here where it is counted
                response = error_response(error)
            call.code = str(response.status_code)
            return response

    async def _v1(self, request: Request, verb: str) -> Response:
        with self._plane.call(verb, "rest") as call:
            try:
                model, _ = _path(request)
                self._plane.label(call, model, None)
                bound(call, request)
                declared = dict(request.scope["headers"]).get(b"content-length")
                body = await read_body(request, declared, self._limits.body_bytes)
                metadata = self._engine.metadata(model)
                asked: InferRequest = v1.decode_v1(
                    model, metadata.inputs, body, self._limits, explain=verb == "explain"
                )
                answer = await self._plane.answer(call, asked)
                response = _json_text(v1.encode_v1(answer, [spec.name for spec in metadata.outputs]))
            except Exception as error:  # noqa: BLE001  # every failure becomes its answer, here where it is counted
                response = error_response(error)
            call.code = str(response.status_code)
            return response


def _path(request: Request) -> tuple[str, str | None]:
    return request.path_params["model"], request.path_params.get("version")


def _json(value: object) -> Response:
    return _json_text(orjson.dumps(value))


def _json_text(text: bytes) -> Response:
    return Response(text, 200, None, "application/json")


def _binary(body: bytes, header_length: int) -> Response:
    headers = {"Inference-Header-Content-Length": str(header_length)}
    return Response(body, 200, headers, "application/octet-stream")
