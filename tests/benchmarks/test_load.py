"""What the load generator puts on the wire."""

from itertools import islice

import numpy as np

from benchmarks.load import Load, prepared
from benchmarks.served_cnn import requests, varied_bodies


def load(protocol: str) -> Load:
    return Load(protocol, 80, "/a", "file", {"X-One": "1"}, connections=1, seconds=1.0)


def test_http_requests_are_framed_and_sent_in_turn():
    sent = list(islice(prepared(load("http"), [b"first", b"2"]), 3))

    assert sent[0] == b"POST /a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nfirst"
    assert sent[1].endswith(b"\r\nContent-Length: 1\r\nX-One: 1\r\n\r\n2")
    assert sent[2] == sent[0]


def test_grpc_messages_have_their_length_before_them():
    assert list(islice(prepared(load("grpc"), [b"abc", b""]), 2)) == [b"\0\0\0\0\3abc", b"\0\0\0\0\0"]


def test_varied_requests_differ_in_their_input_alone(tmp_path):
    found = varied_bodies(tmp_path, count=3)
    plain = requests(np.zeros((1, 3, 32, 32), np.float32))

    for protocol, (folder, headers) in found.items():
        bodies = [file.read_bytes() for file in sorted(folder.iterdir())]
        assert len(set(bodies)) == 3
        assert headers == plain[protocol][1]
        assert {len(body) for body in bodies} == {len(bodies[0])} or protocol == "rest_json"
