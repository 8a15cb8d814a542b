"""What a storage may be said as; and that a secret in it is never repeated."""

from pathlib import Path

import pytest

from gsda.errors import BadInput
from tune.uri import is_uri, locate, parse


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("s3://bucket", "bucket"),
        ("s3://bucket/some/searches/", "bucket/some/searches"),
        ("S3://bucket//a", "bucket/a"),
        ("gs://my-bucket.of.mine/a", "my-bucket.of.mine/a"),
        ("file:///tmp/some%20place", "/tmp/some place"),
        ("file://localhost/tmp", "/tmp"),
    ],
)
def test_a_place(text: str, root: str) -> None:
    assert parse(text).root == root


def test_options_of_s3_are_part_of_the_place_and_not_of_a_sentence(tmp_path: Path) -> None:
    place = parse("s3://b/p?scheme=http&endpoint_override=127.0.0.1:9000")
    assert place.shown == "s3://b/p"
    assert place.text == "s3://b/p?endpoint_override=127.0.0.1:9000&scheme=http"
    assert parse(place.text) == place
    there, other = place.working_copy(tmp_path), parse("s3://b/p").working_copy(tmp_path)
    assert there.parent == other.parent == tmp_path / "remote"
    assert there != other


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("http://host/x", r"begins with http://, but may be a folder or one of s3://, gs://, file"),
        ("s3:///searches", r"s3://\.\.\. names no bucket: s3://BUCKET/searches"),
        ("s3://bucket:80/x", "names no bucket"),
        ("s3://b/a/../../c", "has a path that cannot be used"),
        ("s3://b/a%00b", "has a path that cannot be used"),
        ("s3://b/%2e%2e/c", "has a path that cannot be used"),
        ("file://host/x", "needs a whole path: file:///path/of/searches"),
        ("file:///", "needs a whole path"),
        ("s3://b/p?regoin=x", "unknown option: there may be endpoint_override, region, scheme"),
        ("s3://b/p?region=", "unknown option"),
        ("s3://b/p?region", "no URI that can be read: check its query"),
        ("s3://b/p?region=a&region=b", "has too much behind it"),
        ("s3://b/p#x", "has too much behind it"),
        ("file:///tmp?scheme=http", "there may be nothing"),
        ("s3://[b", "no URI that can be read"),
        ("gs://b/p?anonymous=yes", "gs://b/p: anonymous may be true, or be left out"),
    ],
)
def test_a_place_that_is_none(text: str, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIA:SECRET@bucket/p",
        "s3://SECRET@bucket/p",
        "s3://bucket/p?secret_key=SECRET",
        "s3://bucket/p?region=x&SECRET",
        "gs://bucket/p?access_token=SECRET",
        "http://user:SECRET@host/",
        "s3://user:SECRET@b/../x?y=SECRET",
    ],
)
def test_a_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse(text)
    assert "SECRET" not in str(refusal.value)
    assert "AKIA" not in str(refusal.value)


def test_a_folder_stays_a_folder(tmp_path: Path) -> None:
    assert locate("searches") == (Path("searches"), None)
    assert locate(tmp_path) == (tmp_path, None)
    assert not is_uri("odd:name")
    assert not is_uri("C:\\searches")
    where, uri = locate("file:///tmp/x", tmp_path)
    assert (where.parent, uri) == (tmp_path / "remote", "file:///tmp/x")
