"""The conformance list: one row per case, its number a stable name."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.conformance import (
    binary_rows,
    explain_rows,
    grpc_rows,
    health_rows,
    json_rows,
    repository_rows,
)


@dataclass(frozen=True)
class Case:
    """One thing that a server does right or wrong.

    ``needs`` says what the suite must have beside the server's address to ask at all: ``grpc`` its address; ``extra``
    the further models of this suite; ``start`` leave to start another server with other settings; ``explain`` the
    explain verb, which is no part of the protocol; ``repository`` the port of the repository verbs.
    """

    number: str
    title: str
    check: Callable[..., Any]
    needs: frozenset[str] = frozenset()


def _case(number: str, title: str, check: Callable[..., Any], *needs: str) -> Case:
    return Case(number, title, check, frozenset(needs))


CASES = (
    _case("1", "live, and its body", health_rows.live),
    _case("2", "ready, and its body", health_rows.ready),
    _case("2b", "a model that does not load: not ready, and why", health_rows.not_ready, "start"),
    _case("2c", "ready under both names in use: ready and live", health_rows.ready_both_ways),
    _case("3", "draining: not ready, but live", health_rows.draining, "start"),
    _case("4", "server metadata, and a true list of extensions", health_rows.server_metadata),
    _case("4b", "server metadata at the path with a slash", health_rows.server_metadata_with_slash),
    _case("5", "model metadata equals the ONNX file", health_rows.model_metadata),
    _case("6", "versions in metadata paths", health_rows.versions),
    _case("7", "ready of a model, and its body", health_rows.model_ready),
    _case("7b", "list of models", health_rows.model_list),
    _case("8", "unknown paths and verbs: 404, 405 and the error body", health_rows.unknown_paths),
    _case("9", "flat data in, flat data out, the oracle's values", json_rows.flat),
    _case("10", "nested data", json_rows.nested),
    _case("11", "id: echoed, and none where none was given", json_rows.identifier),
    _case("12", "requested outputs", json_rows.selection),
    _case("12b", "requested outputs in the order asked", json_rows.selection_in_order, "explain"),
    _case("13", "unknown requested output", json_rows.unknown_output),
    _case("13b", "requested outputs of another form", json_rows.bad_outputs),
    _case("14", "wrong, missing, doubled, surplus input names", json_rows.input_names),
    _case("15", "element count that does not match the shape", json_rows.element_count),
    _case("16", "shapes that do not match the metadata", json_rows.shapes),
    _case("17", "unknown datatype", json_rows.unknown_datatype),
    _case("17b", "known datatype that is not the model's", json_rows.other_datatype),
    _case("18", "malformed JSON, missing fields", json_rows.malformed),
    _case("19", "half precision in JSON", json_rows.half_precision),
    _case("20", "elements that are no finite numbers", json_rows.elements),
    _case("20b", "ragged nesting", json_rows.ragged),
    _case("20c", "integer out of range", json_rows.out_of_range, "explain"),
    _case("21", "nested values in parameters", json_rows.nested_parameter),
    _case("21b", "unknown scalar parameters are ignored", json_rows.unknown_parameter),
    _case("22", "rows together equal rows alone", json_rows.rows),
    _case("23", "a huge shape with little data: refused, nothing allocated", json_rows.claimed_size),
    _case("23b", "bodies above the limit", json_rows.body_limit, "start"),
    _case("23c", "a body that claims a terabyte: refused at its head", json_rows.claimed_body),
    _case("24", "unknown model", json_rows.unknown_model),
    _case("24b", "versions in infer paths", json_rows.versioned_path),
    _case("25", "an internal failure shows a reference only", json_rows.internal_failure, "extra"),
    _case("26", "binary in, JSON out", binary_rows.json_out),
    _case("27", "binary out", binary_rows.binary_out),
    _case("28", "binary_data of an output wins over the default", binary_rows.output_wins),
    _case("28b", "binary flags are booleans", binary_rows.flags),
    _case("29", "JSON and binary inputs mixed, in either order", binary_rows.mixed, "explain"),
    _case("30", "raw request", binary_rows.raw_request),
    _case("30b", "no raw request where it would be ambiguous", binary_rows.raw_request_refused, "extra"),
    _case("31", "header length", binary_rows.header_length),
    _case("32", "binary sizes", binary_rows.sizes),
    _case("32b", "data together with a binary size", binary_rows.data_and_size),
    _case("33", "BYTES that run past the end, BOOL bytes other than 0 and 1", binary_rows.bad_elements),
    _case("34", "V1: models and their readiness", repository_rows.v1_models),
    _case("35", "V1: predict with instances and with inputs", repository_rows.v1_predict),
    _case("35b", "V1: mistakes", repository_rows.v1_refused),
    _case("36", "V1: explain", repository_rows.v1_explain, "explain"),
    _case("37", "repository: index with any body", repository_rows.index, "repository"),
    _case(
        "39",
        "repository: a damaged version leaves the old serving",
        repository_rows.damaged_load,
        "start",
        "repository",
    ),
    _case("40", "repository: hostile names", repository_rows.hostile_names, "start", "repository"),
    _case(
        "40b", "repository: inline models are refused", repository_rows.inline_models, "start", "repository"
    ),
    _case("40c", "repository: not on the public port", repository_rows.no_repository_without_admin, "start"),
    _case("40d", "repository: unknown models", repository_rows.unknown_load, "repository"),
    _case("41", "gRPC: health and metadata agree with REST", grpc_rows.agreement, "grpc"),
    _case("41b", "gRPC: unknown models", grpc_rows.unknown_models, "grpc"),
    _case("42", "gRPC: typed in, typed out; raw in, raw out", grpc_rows.typed_and_raw, "grpc"),
    _case("43", "gRPC: raw entries that do not fit", grpc_rows.raw_sizes, "grpc"),
    _case("44", "gRPC: raw together with contents", grpc_rows.raw_and_contents, "grpc"),
    _case("45", "gRPC: what contradicts the metadata", grpc_rows.contradictions, "grpc"),
    _case("46", "gRPC: versions, parameters, id", grpc_rows.versions_parameters_id, "grpc"),
    _case("47", "gRPC: health service and reflection", grpc_rows.health, "grpc"),
    _case("47b", "gRPC: health is told of the drain", grpc_rows.health_on_drain, "grpc", "start"),
    _case("48", "gRPC: methods of other servers", grpc_rows.other_servers_methods, "grpc"),
    _case("49", "unmodified tritonclient, HTTP and gRPC", grpc_rows.tritonclient, "grpc"),
    _case("50", "the same bits over every transport", grpc_rows.same_bits, "grpc"),
    _case("50b", "the same mistake, the same class of error", grpc_rows.same_mistakes, "grpc"),
    _case("51", "explain: outputs, parameters, repetition", explain_rows.shape_and_order, "explain"),
    _case("51b", "explain: a model without explainers", explain_rows.no_explainer, "explain", "extra"),
    _case("52", "explain: the oracle's maps", explain_rows.oracle_maps, "explain", "extra"),
    _case("53", "explain: the same numbers every way", explain_rows.every_way, "explain", "grpc"),
    _case("54", "queue full", explain_rows.queue_full, "start"),
    _case("54b", "deadline", explain_rows.deadline, "grpc", "extra"),
    _case(
        "55",
        "explanations do not starve predictions",
        explain_rows.explain_does_not_starve_predict,
        "explain",
    ),
    _case("55b", "SIGTERM under load", explain_rows.end_under_load, "start"),
    # Last, because a server that unloads and cannot load again has nothing left to ask.
    _case(
        "49b",
        "unmodified tritonclient: index, unload, load",
        grpc_rows.tritonclient_repository,
        "grpc",
        "repository",
    ),
    _case("38", "repository: unload, then load", repository_rows.unload_and_load, "repository"),
    _case(
        "38b",
        "repository: what is not loaded is unavailable, not unknown",
        repository_rows.unloaded_is_unavailable,
        "repository",
    ),
)
