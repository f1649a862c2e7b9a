"""The HTTP server: kept connections, bodies of every kind, and connections that are dropped on purpose."""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Iterator

import pytest
from goldenami_sandbox.http import BadRequest, Request, Response, Server, read_request, render
from goldenami_sandbox.testing import held_port


def echo(request: Request) -> Response:
    if request.path == "/drop":
        return Response(0, drop=True)
    text = f"{request.method} {request.path} {request.query} {len(request.body)}"
    return Response(200, text.encode(), [("X-Agent", request.headers.get("user-agent", ""))])


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(echo)
    server.serve_in_thread()
    yield server
    server.close()


def test_many_requests_over_one_connection(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    for size in (0, 1, 100_000):
        connection.request("POST", "/a%20b?x=1", body=b"z" * size)
        reply = connection.getresponse()
        assert reply.read() == f"POST /a%20b x=1 {size}".encode()
        assert not reply.will_close
    connection.close()


def test_chunked_body(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request(
        "PUT", "/", body=iter([b"abc", b"defg"]), encode_chunked=True, headers={"Transfer-Encoding": "chunked"}
    )
    assert connection.getresponse().read() == b"PUT /  7"
    connection.close()


def test_client_that_waits_for_100_continue(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"PUT /k HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hi")
        assert connection.recv(1000).endswith(b"PUT /k  2")


def test_a_head_has_a_length_and_no_body(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("HEAD", "/")
    reply = connection.getresponse()
    assert int(reply.headers["Content-Length"]) == len("HEAD /  0")
    assert reply.read() == b""
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"GET /  0"
    connection.close()


def test_a_dropped_connection_is_an_error_to_the_client(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("GET", "/drop")
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        connection.getresponse()
    connection.close()


def test_connection_close_is_honoured(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := connection.recv(1000):
            data += chunk
    assert b"Connection: close" in data


def test_close_ends_idle_connections_and_frees_the_port() -> None:
    with held_port() as port:
        server = Server(echo, port)
        server.serve_in_thread()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/")
        connection.getresponse().read()
        with pytest.raises(OSError, match="in use"):
            Server(echo, port)
        server.close()
        again = Server(echo, port)
        again.server_close()
        connection.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello\r\n\r\n", "request line"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "header"),
        (b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", "Content-Length"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "bounds"),
        (b"PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort", "early"),
        (b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk"),
    ],
)
def test_what_is_not_http_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        read_request(io.BytesIO(data), lambda: None)


def test_absolute_targets_and_repeated_headers() -> None:
    data = b"GET http://127.0.0.1/a?b HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
    request = read_request(io.BytesIO(data), lambda: None)
    assert request is not None
    assert (request.path, request.query, request.headers["x-a"]) == ("/a", "b", "1,2")


def test_204_has_neither_body_nor_length() -> None:
    wire = render(Response(204, b"ignored"), keep=True, head=False)
    assert wire.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in wire
