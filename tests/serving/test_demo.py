"""The demo: its port."""

import socket

from serving.cli.demo import free_port


def test_the_demo_takes_the_port_it_prefers_or_else_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = free_port("127.0.0.1", port)
        assert other not in (0, port)
    assert free_port("127.0.0.1", port) == port
