"""Files below a URI: a folder and an S3 server must be the same to whoever uses them."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from uris import KEYS, Flaky

from gsda.errors import BadInput
from tune import objectstore
from tune.objectstore import Patient, Store, StoreError, connect, patiently, reason_of, within


def test_files_come_and_go(uri: str) -> None:
    store = Store(uri)
    assert store.files("a") == {}
    assert store.folders() == []
    store.write("a/b/one", b"1")
    store.write("a/two", b"22")
    store.write("a/two", b"333")
    assert store.read("a/two") == b"333"
    assert {name: item.size for name, item in store.files("a").items()} == {"b/one": 1, "two": 3}
    assert list(store.files("a", deep=False)) == ["two"]
    assert store.folders() == ["a"]
    assert list(store.find(["a/two", "a/none", "a", "none/none"])) == ["a/two"]
    assert abs(store.find(["a/two"])["a/two"].time - time.time()) < 60
    store.delete(["a/two", "a/none"])
    assert list(store.files("a")) == ["b/one"]
    with pytest.raises(FileNotFoundError):
        store.read("a/two")


def test_copies_and_folders_that_go(uri: str) -> None:
    store = Store(uri)
    for name in ("a/b/one", "a/b/c/two", "a/bc", "a/d"):
        store.write(name, name.encode())
    store.copy("a/b/one", "e/f/one")
    store.copy("a/bc", "a/d")
    assert (store.read("e/f/one"), store.read("a/d")) == (b"a/b/one", b"a/bc")
    store.delete_folder("a/b")
    store.delete_folder("a/b")
    store.delete_folder("never/there")
    assert list(store.files("")) == ["a/bc", "a/d", "e/f/one"]
    assert _everything(store, "a") == {"a/bc", "a/d"}  # and nothing in the place of a folder


def _everything(store: Store, below: str) -> set[str]:
    """What lies below a name, marks of folders included."""
    infos = store._select(below, recursive=True)
    return {info.path.removeprefix(f"{store.place.root}/") for info in infos}


class _Copying(BaseHTTPRequestHandler):
    """An S3 server that answers when a large copy is done, and not before."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        time.sleep(4.0)
        body = b"<CopyObjectResult><ETag>x</ETag></CopyObjectResult>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Nothing."""


def test_a_copy_that_takes_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file of hundreds of megabytes; the SDK's own patience is 3 s."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Copying)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        address = f"127.0.0.1:{server.server_port}&scheme=http"
        Store(f"s3://bucket/x?endpoint_override={address}").copy("a", "b")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_an_empty_file_and_a_large_one(uri: str) -> None:
    store, large = Store(uri), bytes(range(256)) * 2**16  # 16 MiB: more than one part
    store.write("empty", b"")
    store.write("large", large)
    assert (store.read("empty"), store.read("large")) == (b"", large)


def test_on_a_folder_a_file_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"file://{tmp_path}/far")
    store.write("a/x", b"old")

    def tear(path: str, content: bytes) -> None:
        Path(path).write_bytes(content[:2])
        raise OSError("torn")

    monkeypatch.setattr(store, "_put", tear)
    with pytest.raises(StoreError, match="torn"):
        store.write("a/x", b"new one")
    assert store.read("a/x") == b"old"


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_bucket_that_is_not_there(scheme: str, request: pytest.FixtureRequest) -> None:
    more = "&anonymous=true" if scheme == "gs" else ""
    address = f"endpoint_override={request.getfixturevalue(scheme)}&scheme=http{more}"
    place = f"{scheme}://other/x"
    with pytest.raises(BadInput, match=f"^--storage {place} cannot be used: there is no such buck"):
        connect(f"{place}?{address}")


def test_a_place_where_nothing_is_yet(uri: str) -> None:
    store = connect(uri)
    assert (store.folders(), store.files("")) == ([], {})


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    began = time.monotonic()
    with pytest.raises(BadInput, match="s3://bucket/x cannot be used: it does not answer"):
        connect("s3://bucket/x?endpoint_override=127.0.0.1:9&scheme=http&region=here")
    assert time.monotonic() - began < 60  # seconds, and not the minutes of the SDK's defaults


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        Store(f"file://{tmp_path}/file/below").write("a", b"")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("AWS Error ACCESS_DENIED during PutObject operation", "access is denied: check the"),
        ("AWS Error UNKNOWN (HTTP status 403) SIGNATURE_DOES_NOT_MATCH", "access is denied"),
        ("Could not create a OAuth2 access token to authenticate", "there are no credentials: set"),
        ("curlCode: 6, Could not resolve hostname; Could not resolve host: x", "be resolved"),
        ("curlCode: 7, Could not connect to server", "it does not answer"),
        ("odd\nTraceback", "odd"),
        ("", "OSError"),
    ],
)
def test_reasons_in_words(said: str, words: str) -> None:
    assert words in reason_of(OSError(said))


def test_a_reason_repeats_no_secret() -> None:
    said = "GET https://user:SECRET@host/x?X-Amz-Signature=SECRET failed"
    assert "SECRET" not in reason_of(OSError(said))


@pytest.fixture
def flaky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flaky:
    monkeypatch.setattr(objectstore, "PAUSES_S", (0.01,))
    return Flaky(f"file://{tmp_path}/far")


def test_what_fails_twice_is_done_the_third_time(flaky: Flaky) -> None:
    flaky.failures = 2
    patiently(lambda: flaky.write("x", b"1"), 10.0)
    assert flaky.calls == ["x"] * 3
    assert flaky.read("x") == b"1"


def test_each_act_has_patience_of_its_own(flaky: Flaky, tmp_path: Path) -> None:
    patient = Patient(flaky, 0.05)
    for name in ("a", "b", "c"):
        flaky.failures = 1
        patient.write(name, name.encode())
    assert patient.read("b") == b"b"
    patient.copy("b", "d/b")
    assert (list(patient.find(["a", "x"])), list(patient.files("d"))) == (["a"], ["b"])
    patient.delete(["a", "x"])
    patient.delete_folder("d")
    assert sorted(flaky.files("")) == ["b", "c"]
    flaky.failures = 10**6
    with pytest.raises(StoreError):
        patient.write("e", b"")
    for name in vars(Store):  # it lets nothing through that has none
        if not name.startswith("_") and callable(getattr(Store, name)):
            assert name in vars(Patient) or name in ("look", "folders"), name


def test_patience_ends(flaky: Flaky) -> None:
    flaky.failures = 10**9
    with pytest.raises(StoreError, match="does not answer"):
        patiently(lambda: flaky.write("x", b"1"), 0.1)
    assert len(flaky.calls) > 1
    flaky.calls.clear()
    with pytest.raises(StoreError):
        patiently(lambda: flaky.write("x", b"1"), 0.0)
    assert flaky.calls == ["x"]


def test_who_never_answers_is_not_waited_for() -> None:
    with pytest.raises(StoreError, match=r"did not answer within 0\.05 s"):
        within(0.05, lambda: time.sleep(0.5))
    with pytest.raises(KeyError):
        within(10.0, lambda: {}["none"])
    assert within(10.0, lambda: 7) == 7
