"""The container and the atomic write that every file of skff goes through."""

import errno
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skff import _files
from skff._files import atomic_write, read, write

ARRAYS = {
    "matrix": np.arange(6.0, dtype=np.float32).reshape(2, 3),
    "mask": np.array([True, False]),
    "names": np.array(["a", "beta"]),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.skff"


dtypes = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.floating_dtypes(sizes=(16, 32, 64))
) | hnp.unicode_string_dtypes(max_len=4)


@given(
    array=hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)),
    transposed=st.booleans(),
)
def test_any_array_comes_back_as_it_was(tmp_path_factory, array, transposed):
    path = tmp_path_factory.getbasetemp() / "round-trip"
    array = array.T if transposed else array
    write(path, "test", {"x": array}, None)
    kind, arrays, document = read(path, {"test"})
    assert (kind, document) == ("test", None)
    np.testing.assert_array_equal(arrays["x"], array, strict=array.dtype.isnative)
    assert arrays["x"].flags.writeable


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(documents)
def test_any_document_comes_back_as_it_was(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "document"
    write(path, "test", {}, document)
    assert read(path, {"test"})[2] == document


@pytest.mark.parametrize(
    "array", [np.array([{}]), np.array([1j]), np.array([b"x"]), np.array(["2020"], "M8[Y]")]
)
def test_what_needs_a_pickle_is_refused_before_the_file_changes(path, array):
    path.write_bytes(b"before")
    with pytest.raises(TypeError, match="without pickle"):
        write(path, "test", {"x": array}, None)
    assert path.read_bytes() == b"before"


def test_a_file_that_could_not_be_read_is_not_written(path):
    deep = []
    for _ in range(_files.DEEPEST):
        deep = [deep]
    with pytest.raises(ValueError, match="levels deep"):
        write(path, "test", {}, deep)
    with pytest.raises(ValueError, match="too many"):
        write(path, "test", {}, [0] * _files.SHORT)
    assert not path.exists()


def test_a_missing_file_is_a_missing_file(path):
    with pytest.raises(FileNotFoundError, match=str(path)):
        read(path, {"test"})
    with pytest.raises(IsADirectoryError):
        read(path.parent, {"test"})


def rewritten(path, change):
    """Write a file whose header is changed while lengths stay right; return its path."""
    data = path.read_bytes()
    n_bytes = struct.unpack("<Q", data[:8])[0]
    header = change(json.loads(data[8 : 8 + n_bytes]))
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + n_bytes :])
    return path


def with_metadata(**changes):
    return lambda header: header | {"__metadata__": header["__metadata__"] | changes}


def with_array(name, **changes):
    return lambda header: header | {name: header[name] | changes}


def named_twice(header):
    """Return the header with one array again under the same name."""
    text = json.dumps(header)
    return (text[:-1] + ', "mask": ' + json.dumps(header["mask"]) + "}").encode()


LIES = {
    "another kind": (with_metadata(kind="other"), "of kind 'other', not test"),
    "a later format": (with_metadata(format="2", skff_version="9.0"), "format '2', .* skff '9.0'"),
    "another version": (with_metadata(skff_version="9.0"), "SHA-256"),
    "a changed document": (with_metadata(content='{"document":1,"texts":[]}'), "SHA-256"),
    "numbers as metadata": (with_metadata(sha256=7), "not text"),
    "no metadata": (lambda header: header | {"__metadata__": {}}, "without the metadata of skff"),
    "a list": (lambda header: [], "no JSON object"),
    "a name twice": (named_twice, "names a field twice"),
    "another type of the same size": (with_array("matrix", dtype="I32"), "SHA-256"),
    "an unknown type": (with_array("matrix", dtype="F8_E4M3"), "no known type"),
    "another shape of the same size": (with_array("matrix", shape=[3, 2]), "SHA-256"),
    "a shape of 2**40": (with_array("matrix", shape=[2**40]), "Invalid|invalid"),
    "a shape of 2**70": (with_array("matrix", shape=[2**70]), "Invalid|invalid"),
    "a negative shape": (with_array("matrix", shape=[-1, 6]), "Invalid|invalid"),
    "an offset beyond the end": (with_array("matrix", data_offsets=[0, 2**40]), "nvalid"),
    "deep JSON": (lambda header: b"[" * 50_000, "levels deep"),
    "broken JSON": (lambda header: b"{{", "Expecting"),
    "many small values": (lambda header: b"[" + b"[]," * 9_000 + b"0]", "too many"),
    "no UTF-8": (lambda header: b'{"\xff": 1}', "utf-8"),
}


@pytest.mark.parametrize(("change", "reason"), LIES.values(), ids=list(LIES))
def test_a_header_that_lies_is_refused_with_file_and_reason(path, change, reason):
    write(path, "test", ARRAYS, {"a": 1})
    with pytest.raises(ValueError, match=f"{path.name}.*({reason})"):
        read(rewritten(path, change), {"test"})


def test_content_is_refused_where_the_hash_is_right_but_the_elements_are_none(path, monkeypatch):
    monkeypatch.setattr(_files, "_digest", lambda metadata, arrays: "")
    write(path, "test", ARRAYS, None)
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"\2\0")
    with pytest.raises(ValueError, match="'mask' has booleans"):
        read(path, {"test"})
    path.write_bytes(data.replace(b"e\0\0\0t\0\0\0", b"e\0\0\0t\0\0w"))
    with pytest.raises(ValueError, match="'names' has characters"):
        read(path, {"test"})


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("error", [Interrupt, KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("place", ["write", "fsync", "replace", "chmod"])
def test_whatever_fails_while_writing_the_previous_file_stays(path, monkeypatch, error, place):
    def fail(*args):
        raise error

    path.write_bytes(b"before")
    if place != "write":
        monkeypatch.setattr(os, place, fail)
    with pytest.raises((Interrupt, KeyboardInterrupt, OSError)), atomic_write(path) as file:
        file.write(b"half of")
        if place == "write":
            fail()
    monkeypatch.undo()
    assert path.read_bytes() == b"before"
    assert os.listdir(path.parent) == [path.name]


KILLED_WRITER = """
import os, signal, sys
from skff._files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half of")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")
def test_the_next_write_removes_what_killed_writers_left_and_nothing_else(path):
    with atomic_write(path) as mine:
        mine.write(b"whole")
        subprocess.run([sys.executable, "-c", KILLED_WRITER, path])
        left = set(os.listdir(path.parent)) - {os.path.basename(mine.name)}
        assert len(left) == 1
        with atomic_write(path.with_name("another")) as other:
            other.write(b"other")
        assert left < set(os.listdir(path.parent))  # not that of another target
        with atomic_write(path) as later:
            later.write(b"later")
        assert path.read_bytes() == b"later"
        assert set(os.listdir(path.parent)) == {path.name, "another", os.path.basename(mine.name)}
    assert path.read_bytes() == b"whole"
    assert set(os.listdir(path.parent)) == {path.name, "another"}


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_file_that_was_removed_before_it_was_locked_is_written_under_another_name(
    path, monkeypatch
):
    def remove_first(file, operation):
        monkeypatch.undo()
        os.unlink(file.name)

    monkeypatch.setattr(_files.fcntl, "flock", remove_first)
    with atomic_write(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_the_previous_or_of_any_new_file(path):
    before = os.umask(0o027)
    try:
        with atomic_write(path) as file:
            file.write(b"new")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o600)
    with atomic_write(path) as file:
        file.write(b"newer")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"newer"


def test_a_link_still_leads_to_the_file(path):
    link = path.with_name("link")
    link.symlink_to(path.name)
    with atomic_write(link) as file:
        file.write(b"content")
    assert link.is_symlink()
    assert path.read_bytes() == b"content"


def test_a_folder_a_device_and_a_missing_folder_are_no_targets(path):
    with pytest.raises(IsADirectoryError), atomic_write(path.parent):
        raise AssertionError
    with pytest.raises(FileNotFoundError, match="missing'"), atomic_write(path / "missing" / "x"):
        raise AssertionError
    with pytest.raises(ValueError, match="regular file"), atomic_write(os.devnull):
        raise AssertionError
