"""Tests stay on this machine."""

import socket

import pytest


def test_a_connection_to_another_machine_is_refused():
    with socket.socket() as other, pytest.raises(RuntimeError, match=r"network: 192\.0\.2\.1"):
        other.connect(("192.0.2.1", 80))


def test_a_name_is_not_looked_up():
    with pytest.raises(RuntimeError, match=r"reached for the network: example\.invalid"):
        socket.getaddrinfo("example.invalid", 80)


def test_the_loopback_is_allowed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
