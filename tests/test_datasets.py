import gzip
import io
import struct
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.utils import Bunch

import skff.datasets
from skff._idx import write_idx
from skff.datasets import fetch_fashion_mnist, fetch_mnist, load_idx

FETCHERS = {"mnist": fetch_mnist, "fashion-mnist": fetch_fashion_mnist}
IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
NAMES = {"train": "train", "test": "t10k"}


def idx_bytes(array):
    """Encode an array independently of the module under test."""
    code = IDX_CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_subset(folder, subset, n_samples=7, suffix=""):
    """Write random images and labels under the authors' names and return them."""
    rng = np.random.default_rng(n_samples)
    images = rng.integers(0, 256, (n_samples, 28, 28), dtype=np.uint8)
    images[0, 0, :2] = 0, 255
    labels = rng.integers(0, 10, n_samples, dtype=np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix == ".gz" else bytes
    stem = NAMES[subset]
    (folder / f"{stem}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(images)))
    (folder / f"{stem}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels)))
    return images, labels


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """Give an empty data home; SKFF_DATA unset and OpenML out of reach."""

    def refuse(*args, **kwargs):
        raise URLError("no network here")

    monkeypatch.delenv("SKFF_DATA", raising=False)
    monkeypatch.setattr(skff.datasets, "fetch_openml", refuse)
    return tmp_path / "home"


@pytest.fixture
def openml(no_data, monkeypatch):
    """Let OpenML answer with a table whose pixels tell the row; count the calls."""
    data = np.zeros((70_000, 784), dtype=np.uint8)
    data[:, 0] = np.arange(70_000) % 251
    target = np.array([str(row % 10) for row in range(70_000)], dtype=object)
    calls = []

    def answer(name, *, version, as_frame, **settings):
        calls.append((name, version))
        return Bunch(data=data, target=target)

    monkeypatch.setattr(skff.datasets, "fetch_openml", answer)
    return Bunch(calls=calls, data=data, home=no_data)


# load_idx


@given(array=hnp.arrays(st.sampled_from(list(IDX_CODES)), hnp.array_shapes(max_dims=4, min_side=0)))
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_round_trip_keeps_shape_type_and_values(array, pack, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(pack(idx_bytes(array)))
    read = load_idx(path)
    assert read.dtype == array.dtype.newbyteorder("=")
    assert read.dtype.isnative
    assert read.flags.writeable
    np.testing.assert_array_equal(read, array)


def test_write_idx_is_read_back(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "array", array)
    assert (tmp_path / "array").read_bytes() == idx_bytes(array)


@given(content=st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\0\0\x08" + tail))
@example(content=b"\0\0\x08\x02\0\0\0\0\xff\xff\xff\xff")
@example(content=b"\0\0\x0e\x41" + bytes(4 * 65))
@example(content=b"\0\0\x08\x04" + b"\0\0\0\0" + b"\xff" * 12)
@example(content=b"\x1f\x8b\x08\0\0\0\0\0\0\0")
def test_any_bytes_give_their_array_or_a_value_error_with_the_path(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("idx") / "foreign"
    path.write_bytes(content)
    try:
        array = load_idx(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert array.nbytes == len(content) - 4 - 4 * array.ndim


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_truncated_and_trailing_bytes_are_named(pack, tmp_path):
    whole = idx_bytes(np.arange(6, dtype=np.int16).reshape(2, 3))
    path = tmp_path / "pixels"
    path.write_bytes(pack(whole[:-1]))
    with pytest.raises(ValueError, match=r"pixels is truncated: got 11 bytes .* expected 12"):
        load_idx(path)
    path.write_bytes(pack(whole + b"\0"))
    with pytest.raises(ValueError, match=r"pixels goes on after the 12 bytes"):
        load_idx(path)
    path.write_bytes(pack(whole[:9]))
    with pytest.raises(ValueError, match=r"pixels is not an IDX file or is truncated"):
        load_idx(path)


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9], ids="{:.0%}".format)
def test_gzip_cut_short_is_named(keep, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 10_000, dtype=np.uint8)
    packed = gzip.compress(idx_bytes(noise))
    (tmp_path / "cut.gz").write_bytes(packed[: int(keep * len(packed))])
    with pytest.raises(ValueError, match=r"cut\.gz is a truncated or damaged gzip file"):
        load_idx(tmp_path / "cut.gz")


def test_gzip_with_a_flipped_bit_fails_its_checksum(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, 1_000, dtype=np.uint8)
    packed = bytearray(gzip.compress(idx_bytes(noise), compresslevel=0))
    packed[500] ^= 1
    (tmp_path / "flipped.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"flipped\.gz is a truncated or damaged gzip file: CRC"):
        load_idx(tmp_path / "flipped.gz")


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"\0\0\x0a\x01\0\0\0\0", b"<html>"])
def test_foreign_files_are_named(content, tmp_path):
    (tmp_path / "page").write_bytes(content)
    with pytest.raises(ValueError, match="page is not an IDX file: got first bytes"):
        load_idx(tmp_path / "page")
    (tmp_path / "page.gz").write_bytes(content)
    with pytest.raises(ValueError, match=r"page\.gz is not a gzip file, but its name ends in \.gz"):
        load_idx(tmp_path / "page.gz")


class MeteredStream(io.BytesIO):
    largest_read = 0

    def read(self, size=-1):
        self.largest_read = max(self.largest_read, size)
        return super().read(size)


def test_a_header_that_claims_much_allocates_little():
    stream = MeteredStream(struct.pack(">BBBB4I", 0, 0, 0x0E, 4, *[2**32 - 1] * 4) + b"few")
    with pytest.raises(ValueError, match="hostile is truncated: got 3 bytes"):
        skff._idx._read_idx(stream, "hostile")
    assert 0 < stream.largest_read <= 2**20


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_idx(tmp_path / "nowhere")


# where the files are found


@pytest.mark.parametrize("subset", ["train", "test"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("folder", FETCHERS)
def test_files_in_skff_data_are_loaded(folder, suffix, subset, no_data, tmp_path, monkeypatch):
    images, labels = write_subset(tmp_path / "own" / folder, subset, suffix=suffix)
    monkeypatch.setenv("SKFF_DATA", str(tmp_path / "own"))
    bunch = FETCHERS[folder](subset=subset, data_home=no_data)
    np.testing.assert_array_equal(bunch.data, images.reshape(-1, 784) / np.float32(255))
    np.testing.assert_array_equal(bunch.target, labels)
    assert not no_data.exists(), "nothing may be created when the files are at hand"


def test_bunch_has_the_documented_attributes(no_data):
    write_subset(no_data / "skff" / "mnist", "train")
    bunch = fetch_mnist(data_home=no_data)
    assert bunch.data.shape == (7, 784)
    assert bunch.data.dtype == np.float32
    assert bunch.data.flags.c_contiguous
    assert (bunch.data.min(), bunch.data.max()) == (0, 1)
    assert bunch.target.dtype == np.int64
    assert bunch.images.shape == (7, 28, 28)
    assert np.shares_memory(bunch.images, bunch.data)
    assert bunch.target_names == [str(digit) for digit in range(10)]
    assert "CC BY-SA 3.0" in bunch.DESCR


def test_return_X_y_gives_the_arrays_alone(no_data):
    write_subset(no_data / "skff" / "fashion-mnist", "test")
    bunch = fetch_fashion_mnist(subset="test", data_home=no_data)
    X, y = fetch_fashion_mnist(subset="test", data_home=no_data, return_X_y=True)
    np.testing.assert_array_equal(X, bunch.data)
    np.testing.assert_array_equal(y, bunch.target)
    assert "MIT" in bunch.DESCR
    assert len(set(bunch.target_names)) == 10


def test_skff_data_comes_before_the_cache(no_data, tmp_path, monkeypatch):
    _, own = write_subset(tmp_path / "own" / "mnist", "train", n_samples=5)
    write_subset(no_data / "skff" / "mnist", "train", n_samples=9)
    monkeypatch.setenv("SKFF_DATA", str(tmp_path / "own"))
    np.testing.assert_array_equal(fetch_mnist(data_home=no_data).target, own)


def test_a_folder_with_one_file_of_two_is_passed_over(no_data, tmp_path, monkeypatch):
    write_subset(tmp_path / "own" / "mnist", "train", n_samples=5)
    (tmp_path / "own" / "mnist" / "train-labels-idx1-ubyte").unlink()
    _, cached = write_subset(no_data / "skff" / "mnist", "train", n_samples=9)
    monkeypatch.setenv("SKFF_DATA", str(tmp_path / "own"))
    np.testing.assert_array_equal(fetch_mnist(data_home=no_data).target, cached)


# download


@pytest.mark.parametrize(
    "fetch, name", [(fetch_mnist, "mnist_784"), (fetch_fashion_mnist, "Fashion-MNIST")]
)
def test_download_splits_60000_to_10000_and_is_cached(fetch, name, openml):
    X, y = fetch(data_home=openml.home, return_X_y=True)
    X_test, y_test = fetch(subset="test", data_home=openml.home, return_X_y=True)
    assert openml.calls == [(name, 1)], "the second subset comes from the cache"
    assert X.shape == (60_000, 784)
    assert X_test.shape == (10_000, 784)
    np.testing.assert_array_equal(np.r_[y, y_test], np.arange(70_000) % 10)
    first_pixels = np.r_[X[:, 0], X_test[:, 0]]
    np.testing.assert_array_equal(first_pixels, openml.data[:, 0] / np.float32(255))
    again, _ = fetch(data_home=openml.home, return_X_y=True)
    np.testing.assert_array_equal(again, X)


def test_a_failed_write_leaves_no_cache_behind(openml, monkeypatch):
    def fill_the_disk(path, array):
        path.write_bytes(b"\0\0\x08")
        raise OSError("No space left on device")

    monkeypatch.setattr(skff.datasets, "write_idx", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        fetch_mnist(data_home=openml.home)
    assert list((openml.home / "skff" / "mnist").iterdir()) == []


@pytest.mark.parametrize(
    "table, reason",
    [
        (Bunch(data=np.zeros((5, 784)), target=np.zeros(5)), r"data of shape \(5, 784\)"),
        (Bunch(data=np.full((70_000, 784), 256, "i2"), target=np.zeros(70_000)), "pixels outside"),
        (Bunch(data=np.zeros((70_000, 784), "u1"), target=np.full(70_000, -1)), "labels outside"),
    ],
    ids=["shape", "pixels", "labels"],
)
def test_an_unexpected_table_is_refused_and_not_cached(table, reason, no_data, monkeypatch):
    monkeypatch.setattr(skff.datasets, "fetch_openml", lambda *args, **kwargs: table)
    with pytest.raises(FileNotFoundError, match=reason):
        fetch_mnist(data_home=no_data)
    assert not (no_data / "skff").exists()


# errors


def test_error_names_folders_files_and_the_variable_to_set(no_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SKFF_DATA", str(tmp_path / "own"))
    with pytest.raises(FileNotFoundError) as caught:
        fetch_mnist(subset="test", data_home=no_data)
    message = str(caught.value)
    for part in [
        str(tmp_path / "own" / "mnist"),
        str(no_data / "skff" / "mnist"),
        "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte",
        "SKFF_DATA",
        "no network here",
    ]:
        assert part in message


def test_nothing_is_downloaded_unasked(openml):
    with pytest.raises(FileNotFoundError, match="download_if_missing is False"):
        fetch_mnist(data_home=openml.home, download_if_missing=False)
    assert openml.calls == []


def test_a_damaged_cache_is_named_with_what_to_do(no_data):
    cache = no_data / "skff" / "mnist"
    write_subset(cache, "train")
    damaged = cache / "train-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is truncated.* Delete the file"):
        fetch_mnist(data_home=no_data)


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (np.zeros((3, 28, 27), "u1"), np.zeros(3, "u1"), r"shape \(3, 28, 27\).*\(n, 28, 28\)"),
        (np.zeros((0, 28, 28), "u1"), np.zeros(0, "u1"), r"n at least 1"),
        (np.zeros((3, 28, 28), "i4"), np.zeros(3, "u1"), r"int32 data"),
        (np.zeros((3, 28, 28), "u1"), np.zeros(4, "u1"), r"each of the 3 images"),
        (np.zeros((3, 28, 28), "u1"), np.array([0, 1, 10], "u1"), r"label 10.*expected labels 0"),
    ],
)
def test_files_that_are_not_what_they_say_are_named(images, labels, message, no_data, monkeypatch):
    folder = no_data / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").write_bytes(idx_bytes(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    monkeypatch.setenv("SKFF_DATA", str(no_data))
    with pytest.raises(ValueError, match=message):
        fetch_mnist()


@pytest.mark.parametrize("subset", ["valid", "Train", None, ["train"]])
def test_unknown_subset_lists_the_known(subset, no_data):
    with pytest.raises(ValueError, match=r"Got subset=.*\['test', 'train'\]"):
        fetch_mnist(subset=subset, data_home=no_data)


# the real images


@pytest.mark.parametrize(
    "fetch, subset, counts, first_labels",
    [
        (
            fetch_mnist,
            "train",
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [5, 0, 4, 1, 9, 2, 1, 3],
        ),
        (
            fetch_mnist,
            "test",
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            [7, 2, 1, 0, 4, 1, 4, 9],
        ),
        (fetch_fashion_mnist, "train", [6000] * 10, [9, 0, 0, 3, 0, 2, 7, 2]),
        (fetch_fashion_mnist, "test", [1000] * 10, [9, 2, 1, 1, 6, 1, 4, 6]),
    ],
)
def test_real_images_are_the_published_ones(fetch, subset, counts, first_labels, image_folder):
    bunch = fetch(subset=subset, download_if_missing=False)
    assert bunch.data.shape == (sum(counts), 784)
    assert (bunch.data.min(), bunch.data.max()) == (0, 1)
    assert np.bincount(bunch.target).tolist() == counts
    assert bunch.target[:8].tolist() == first_labels


def test_real_mnist_pixels_have_their_published_moments(image_folder):
    X, _ = fetch_mnist(download_if_missing=False, return_X_y=True)
    assert X.mean(dtype=np.float64) == pytest.approx(0.1307, abs=1e-4)
    assert X.std(dtype=np.float64) == pytest.approx(0.3081, abs=1e-4)
