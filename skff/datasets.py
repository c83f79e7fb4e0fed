"""MNIST and Fashion-MNIST, from disk or from OpenML, and the IDX files in which they are stored."""

from __future__ import annotations

import contextlib
import os
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from sklearn.datasets import fetch_openml, get_data_home
from sklearn.utils import Bunch

from skff._idx import load_idx, write_idx

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["fetch_fashion_mnist", "fetch_mnist", "load_idx"]

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# OpenML holds both data sets as one table, training images first.
_OPENML_ROWS = {"train": slice(0, 60_000), "test": slice(60_000, 70_000)}

_MNIST = {
    "folder": "mnist",
    "openml": "mnist_784",
    "target_names": [str(digit) for digit in range(10)],
    "DESCR": """\
MNIST handwritten digits

70,000 grey images of 28 x 28 pixels in 10 classes, the digits 0 to 9: 60,000 for training and
10,000 for testing, written by different people. 0 is background, 1 is full ink.

Source: Yann LeCun, Corinna Cortes and Christopher J. C. Burges, "The MNIST database of handwritten
digits"; OpenML data set "mnist_784", version 1.
Licence: Creative Commons Attribution-ShareAlike 3.0 (CC BY-SA 3.0).
""",
}
_FASHION_MNIST = {
    "folder": "fashion-mnist",
    "openml": "Fashion-MNIST",
    "target_names": [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    "DESCR": """\
Fashion-MNIST articles of clothing

70,000 grey images of 28 x 28 pixels in 10 classes of clothing, in the format and split of MNIST:
60,000 for training and 10,000 for testing. 0 is background, 1 is the brightest.

Source: Han Xiao, Kashif Rasul and Roland Vollgraf, "Fashion-MNIST: a novel image dataset for
benchmarking machine learning algorithms", arXiv:1708.07747, 2017; OpenML data set "Fashion-MNIST",
version 1.
Licence: MIT, Copyright 2017 Zalando SE.
""",
}


def fetch_mnist(
    *,
    subset: str = "train",
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the MNIST handwritten digits, downloading them if they are not on disk.

    The images are first looked for in `$SKFF_DATA/mnist`, then in the cache `skff/mnist` of the
    data home. If they are in neither, they are downloaded from OpenML and cached. Both folders
    contain IDX files with their original names, gzip-compressed or not: `train-images-idx3-ubyte`,
    `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`.

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
        The 60,000 training images or the 10,000 test images.
    data_home : str or path-like, default=None
        Folder of the cache; None takes :func:`sklearn.datasets.get_data_home`.
    download_if_missing : bool, default=True
        Whether to download files that are not on disk.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    mnist : :class:`sklearn.utils.Bunch`
        Object with the attributes

        - `data`: ndarray of shape (n_samples, 784) and dtype float32, pixels in [0, 1], row by row;
        - `target`: ndarray of shape (n_samples,) and dtype int64, classes 0 to 9;
        - `target_names`: list of 10 str;
        - `images`: `data` as a view of shape (n_samples, 28, 28);
        - `DESCR`: str, description, source and licence.

    (data, target) : tuple of ndarray
        If `return_X_y` is True.

    Raises
    ------
    ValueError
        If `subset` is unknown, or a file does not have the contents that its name implies.
    FileNotFoundError
        If the files are not on disk and `download_if_missing` is False, or if the download fails.

    Examples
    --------
    >>> from skff.datasets import fetch_mnist
    >>> X, y = fetch_mnist(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y.shape  # doctest: +SKIP
    ((10000, 784), (10000,))
    """
    return _fetch(_MNIST, subset, data_home, download_if_missing, return_X_y)


def fetch_fashion_mnist(
    *,
    subset: str = "train",
    data_home: str | PathLike[str] | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Bunch | tuple[np.ndarray, np.ndarray]:
    """Load the Fashion-MNIST images of clothing, downloading them if they are not on disk.

    The images are first looked for in `$SKFF_DATA/fashion-mnist`, then in the cache
    `skff/fashion-mnist` of the data home. If they are in neither, they are downloaded from OpenML
    and cached. The files have the same names as those of MNIST, see :func:`fetch_mnist`.

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
        The 60,000 training images or the 10,000 test images.
    data_home : str or path-like, default=None
        Folder of the cache; None takes :func:`sklearn.datasets.get_data_home`.
    download_if_missing : bool, default=True
        Whether to download files that are not on disk.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    fashion_mnist : :class:`sklearn.utils.Bunch`
        With the attributes `data`, `target`, `target_names`, `images` and `DESCR`, of the shapes
        and dtypes that :func:`fetch_mnist` gives.
    (data, target) : tuple of ndarray
        If `return_X_y` is True.

    Raises
    ------
    ValueError
        If `subset` is unknown, or a file does not have the contents that its name implies.
    FileNotFoundError
        If the files are not on disk and `download_if_missing` is False, or if the download fails.

    Examples
    --------
    >>> from skff.datasets import fetch_fashion_mnist
    >>> fashion = fetch_fashion_mnist(subset="test")  # doctest: +SKIP
    >>> fashion.target_names[fashion.target[0]]  # doctest: +SKIP
    'Ankle boot'
    """
    return _fetch(_FASHION_MNIST, subset, data_home, download_if_missing, return_X_y)


def _fetch(dataset, subset, data_home, download_if_missing, return_X_y):
    """Find or download one subset and give it scikit-learn's shape."""
    if subset not in list(_FILES):
        raise ValueError(f"Got subset={subset!r}, but expected one of {sorted(_FILES)}.")
    images, target = _find_or_download(dataset, subset, data_home, download_if_missing)
    data = np.divide(images.reshape(-1, 784), 255, dtype=np.float32)
    target = target.astype(np.int64)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=list(dataset["target_names"]),
        images=data.reshape(images.shape),
        DESCR=dataset["DESCR"],
    )


def _find_or_download(dataset, subset, data_home, download_if_missing):
    """Return uint8 images (n, 28, 28) and labels (n,) of a subset."""
    own = os.environ.get("SKFF_DATA")
    folders = [Path(own).expanduser() / dataset["folder"]] if own else []
    if paths := _existing_pair(folders, subset):
        return _load_pair(paths)
    cache = Path(get_data_home(data_home)) / "skff" / dataset["folder"]
    if paths := _existing_pair([cache], subset):
        with _advice_to_delete(cache):
            return _load_pair(paths)
    folders.append(cache)
    if not download_if_missing:
        raise FileNotFoundError(_not_found(folders, subset, "download_if_missing is False"))
    try:
        images, target = _download(dataset["openml"], data_home)
    except (OSError, ValueError) as error:  # no network, or not what was asked for
        reason = f"the download from OpenML failed ({error})"
        raise FileNotFoundError(_not_found(folders, subset, reason)) from error
    _write_cache(cache, images, target)
    return images[_OPENML_ROWS[subset]], target[_OPENML_ROWS[subset]]


def _existing_pair(folders, subset):
    """Return the paths of a subset's images and labels in the first folder that has both."""
    for folder in folders:
        candidates = [[folder / name, folder / f"{name}.gz"] for name in _FILES[subset]]
        pair = [next((path for path in paths if path.is_file()), None) for paths in candidates]
        if all(pair):
            return pair
    return None


def _load_pair(paths):
    """Return images and labels, or say which file is not what its name says."""
    images, target = (load_idx(path) for path in paths)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or not len(images):
        raise ValueError(
            f"Got {images.dtype} data of shape {images.shape} in {paths[0]}, "
            "but expected uint8 images of shape (n, 28, 28) with n at least 1."
        )
    if target.dtype != np.uint8 or target.shape != images.shape[:1]:
        raise ValueError(
            f"Got {target.dtype} data of shape {target.shape} in {paths[1]}, but expected one "
            f"uint8 label for each of the {len(images)} images in {paths[0]}."
        )
    if target.max() > 9:
        raise ValueError(f"Got label {target.max()} in {paths[1]}, but expected labels 0 to 9.")
    return images, target


@contextlib.contextmanager
def _advice_to_delete(cache):
    """Add to an error about a cached file what to do about it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{error} Delete the file from {cache} and fetch again.") from error


def _not_found(folders, subset, reason):
    names = " and ".join(_FILES[subset])
    return (
        f"Found no {names} (plain or .gz) in {' or '.join(map(str, folders))}, and {reason}. Put "
        f"the two files into a folder {folders[-1].name!r} and set the environment variable "
        "SKFF_DATA to the folder that holds it, or give data_home a folder that has them in "
        f"{'/'.join(folders[-1].parts[-2:])}."
    )


def _download(name, data_home):
    """Return all 70,000 images and labels of an OpenML table as uint8."""
    # Without pandas, scikit-learn reads the table with its slower parser of its own.
    parser = "pandas" if find_spec("pandas") else "liac-arff"
    table = fetch_openml(
        name, version=1, data_home=data_home, as_frame=False, cache=False, parser=parser
    )
    data, target = np.asarray(table.data), np.asarray(table.target).astype(np.int64)
    if data.shape != (70_000, 784) or target.shape != (70_000,):
        raise ValueError(
            f"got data of shape {data.shape} and labels of shape {target.shape} for {name!r}, but "
            "expected (70000, 784) and (70000,)"
        )
    for what, values, largest in [("pixels", data, 255), ("labels", target, 9)]:
        if not (values.min() >= 0 and values.max() <= largest):
            raise ValueError(f"got {what} outside 0 to {largest} for {name!r}")
    return data.astype(np.uint8).reshape(-1, 28, 28), target.astype(np.uint8)


def _write_cache(cache, images, target):
    """Write four IDX files, each complete before it gets its name."""
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as scratch:
        for subset, names in _FILES.items():
            for name, array in zip(names, (images, target), strict=True):
                path = Path(scratch) / name
                write_idx(path, array[_OPENML_ROWS[subset]])
                os.replace(path, cache / name)
