"""The floor of a cold start: a process that has imported the handler and forks for each connection, and does no more.

``python -m bench.bare_fork MODULE.HANDLER PORT``. No limits, no isolation, no pool, no deadline, no log: the child
reads one request, answers it, and is gone. What a fork of such a process costs whoever makes it is in its figure.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any


def answer(connection: socket.socket, handler: Callable[[Any, Any], Any]) -> None:
    """Read one request with a Content-Length, run the handler on its JSON body, write its answer."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += connection.recv(65_536)
    length = int(data[: end + 2].split(b"Content-Length: ", 1)[1].split(b"\r\n", 1)[0])
    while len(data) < end + 4 + length:
        data += connection.recv(65_536)
    body = json.dumps(handler(json.loads(data[end + 4 :]), None)).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.sendall(head + body)


def main() -> None:
    name, _, function = sys.argv[1].rpartition(".")
    gc.disable()
    handler = getattr(importlib.import_module(name), function)
    gc.freeze()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    while True:
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                try:
                    listener.close()
                    gc.enable()
                    answer(connection, handler)
                finally:
                    os._exit(0)


if __name__ == "__main__":
    main()
