"""An S3 server for tests, and stores that fail on purpose."""

import errno
import logging
import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tune.objectstore import Store, StoreError

KEYS = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def serving() -> Iterator[str]:
    """Moto's S3 on a free port of loopback; gives its address, and sets credentials."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    before = {name: os.environ.get(name) for name in KEYS}
    os.environ.update(KEYS)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        bucket = urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT")
        urllib.request.urlopen(bucket).close()
        yield f"{host}:{port}"
    finally:
        server.stop()
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def serving_gs() -> Iterator[str]:
    """A stand-in for Google's storage on a free port of loopback; gives its address."""
    from gcp_storage_emulator.server import create_server

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="bucket")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop()


class Flaky(Store):
    """A store that fails when it is told to.

    Attributes:
        failures: how many of the next writes fail. torn: whether half of what was to be written is
            there then. calls: names that were written, tried or done.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.failures, self.torn = 0, False
        self.calls: list[str] = []
        self.before_write: Callable[[str], Any] = lambda name: None

    def write(self, name: str, content: bytes) -> None:
        """As `Store.write`, or not."""
        self.calls.append(name)
        self.before_write(name)
        if self.failures > 0:
            self.failures -= 1
            if self.torn:
                super().write(name, content[: len(content) // 2])
            raise StoreError(errno.EIO, "it does not answer", f"{self.shown}/{name}")
        super().write(name, content)
