"""TLS and mutual TLS of a real server, on every port."""

import logging
import socket
import ssl
import time

import grpc
import httpx
import pytest

from clearweight.service import LoadError
from clearweight.service.rpc.generated import open_inference_pb2 as oip
from clearweight.service.rpc.generated import open_inference_pb2_grpc as oip_grpc
from clearweight.service.settings import Settings
from clearweight.service.tls import Tls
from tests.service.certificates import Authority
from tests.service.conftest import start_server, stop_server

ADMIN = "admin-token-0123456789"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def mutual(models, authority):
    """A server with three ports that asks its clients for certificates."""
    certificate, key = authority.issue("server")
    server = start_server(
        models,
        tls_cert=str(certificate),
        tls_key=str(key),
        tls_client_ca=str(authority.path),
        admin_port=0,
        admin_tokens=ADMIN,
    )
    yield server
    assert stop_server(server) == 0


def context(authority, pair=None, **versions):
    made = ssl.create_default_context(cafile=authority.path)
    if pair:
        made.load_cert_chain(*pair)
    for name, version in versions.items():
        setattr(made, name, version)
    return made


def channel(server, authority, pair=None):
    certificate, key = (path.read_bytes() for path in pair) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.path.read_bytes(), key, certificate)
    return grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials)


def live(opened):
    return oip_grpc.GRPCInferenceServiceStub(opened).ServerLive(oip.ServerLiveRequest(), timeout=10).live


def test_a_client_with_a_certificate_is_served_on_every_port(mutual, authority):
    pair = authority.issue("client")
    with httpx.Client(verify=context(authority, pair)) as http:
        for port, verb, path, status in (
            (mutual.http_port, "GET", "/v2/health/ready", 200),
            (mutual.admin_port, "POST", "/v2/repository/index", 200),
        ):
            headers = {"Authorization": f"Bearer {ADMIN}"}
            assert (
                http.request(verb, f"https://127.0.0.1:{port}{path}", headers=headers).status_code == status
            )
    with channel(mutual, authority, pair) as opened:
        assert live(opened)


def test_a_client_without_or_with_a_strangers_certificate_is_turned_away(mutual, authority, tmp_path):
    stranger = Authority(tmp_path, "stranger").issue("client")
    for pair in (None, stranger):
        for port in (mutual.http_port, mutual.admin_port):
            with httpx.Client(verify=context(authority, pair)) as http, pytest.raises(httpx.TransportError):
                http.get(f"https://127.0.0.1:{port}/v2/health/live")
        with channel(mutual, authority, pair) as opened, pytest.raises(grpc.RpcError) as refused:
            live(opened)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_no_port_speaks_plainly_beside_tls(mutual):
    for port in (mutual.http_port, mutual.admin_port):
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/v2/health/live")
    with grpc.insecure_channel(f"127.0.0.1:{mutual.grpc_port}") as opened, pytest.raises(grpc.RpcError):
        live(opened)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("port", ["http_port", "grpc_port", "admin_port"])
def test_nothing_older_than_tls_1_2_is_spoken(mutual, authority, port):
    # The old client is willing: even its own weak ciphers are allowed.
    old = context(authority, authority.issue("client"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", getattr(mutual, port)), timeout=10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
        old.wrap_socket(raw, server_hostname="127.0.0.1"),
    ):
        pass


def test_a_renewed_certificate_is_used_without_a_restart(models, authority):
    files = authority.issue("renewed")
    server = start_server(models, tls_cert=str(files[0]), tls_key=str(files[1]))

    def seen(port):
        pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
        return ssl.PEM_cert_to_DER_cert(pem)

    first = seen(server.http_port)
    assert seen(server.grpc_port) == first
    authority.issue("renewed")
    second = ssl.PEM_cert_to_DER_cert(files[0].read_text())
    until = time.monotonic() + 20
    while seen(server.http_port) != second and time.monotonic() < until:
        time.sleep(0.2)

    assert first != second == seen(server.http_port) == seen(server.grpc_port)
    with httpx.Client(verify=context(authority)) as http:
        assert http.get(f"https://127.0.0.1:{server.http_port}/v2/health/live").status_code == 200
    with channel(server, authority) as opened:
        assert live(opened)
    assert stop_server(server) == 0


def test_a_half_renewed_certificate_changes_nothing_until_its_key_is_there(tmp_path, caplog):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    tls = Tls(certificate, key)
    before = tls._current
    old_key = key.read_bytes()
    authority.issue("server")
    new_key = key.read_bytes()
    key.write_bytes(old_key)
    tls.refresh()
    assert tls._current is before
    assert "stays as it was" in caplog.text

    key.write_bytes(new_key)
    caplog.set_level(logging.INFO)
    tls.refresh()
    assert tls._current is not before


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key"])
def test_half_of_the_settings_is_an_error_and_never_a_plain_port(tmp_path, missing):
    certificate, key = Authority(tmp_path).issue("server")
    given = {"tls_cert": certificate, "tls_key": key, "tls_client_ca": certificate} | {missing: None}
    with pytest.raises(LoadError, match="tls_cert and tls_key"):
        Settings(models=tmp_path, **given).tls()


def test_files_that_do_not_fit_are_named(tmp_path):
    authority = Authority(tmp_path)
    certificate, _ = authority.issue("one")
    _, key = authority.issue("two")
    with pytest.raises(LoadError, match=r"two\.key"):
        Tls(certificate, key)
    with pytest.raises(LoadError, match="absent"):
        Tls(certificate, tmp_path / "absent")
