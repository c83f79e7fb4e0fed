"""IDX files, the plain array format of MNIST: a magic number, the shape, the elements."""

from __future__ import annotations

import contextlib
import gzip
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from os import PathLike

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK_BYTES = 1 << 20


def load_idx(path: str | PathLike[str]) -> np.ndarray:
    """Read an array from an IDX file, plain or gzip-compressed.

    Parameters
    ----------
    path : str or path-like
        File to read. Compression is recognised by content; a name that ends in `.gz` must hold a
        gzip file.

    Returns
    -------
    array : ndarray
        Writable array of the shape and element type (8-bit unsigned or 8, 16 or 32-bit signed
        integers, 32 or 64-bit floats) that the file's header states, in native byte order.

    Raises
    ------
    ValueError
        If the file is no IDX or gzip file, is truncated, or goes on after its last element.
    OSError
        If the file cannot be opened.

    Notes
    -----
    Memory grows with the bytes the file really holds, never with what its header claims.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from skff.datasets import load_idx
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels-idx1-ubyte"
    ...     _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    ...     load_idx(path)
    array([7, 2, 1], dtype=uint8)
    """
    path = Path(path)
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP_MAGIC
        file.seek(0)
        if path.suffix == ".gz" and not compressed:
            raise ValueError(f"{path} is not a gzip file, but its name ends in .gz.")
        try:
            with gzip.open(file) if compressed else contextlib.nullcontext(file) as stream:
                return _read_idx(stream, path)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a truncated or damaged gzip file: {error}.") from error


def _read_idx(stream, path):
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES:
        raise ValueError(
            f"{path} is not an IDX file: got first bytes {magic.hex(' ') or 'none'}, but expected "
            f"00 00, an element type of {', '.join(f'{code:02x}' for code in _DTYPES)}, and "
            "the number of dimensions."
        )
    shape = _read_shape(stream, n_dims=magic[3], path=path)
    dtype = np.dtype(_DTYPES[magic[2]])
    n_bytes = math.prod(shape) * dtype.itemsize
    content = _read_at_most(stream, n_bytes)
    if len(content) < n_bytes:
        raise ValueError(
            f"{path} is truncated: got {len(content)} bytes after the header, but expected "
            f"{n_bytes} for shape {shape} and {dtype.itemsize} bytes per element."
        )
    if stream.read(1):  # also makes gzip check its checksum
        raise ValueError(f"{path} goes on after the {n_bytes} bytes that shape {shape} needs.")
    try:
        array = np.frombuffer(content, dtype=dtype).reshape(shape)
    except ValueError as error:  # a size of 0 beside sizes that no array can have
        raise ValueError(f"{path} is not an IDX file: got shape {shape} ({error}).") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def _read_shape(stream, n_dims, path):
    header = stream.read(4 * n_dims)
    if not 1 <= n_dims <= 64 or len(header) < 4 * n_dims:  # 64: what numpy can hold
        raise ValueError(
            f"{path} is not an IDX file or is truncated: got {n_dims} dimensions and "
            f"{len(header)} bytes of sizes, but expected 1 to 64 dimensions of 4 bytes each."
        )
    return tuple(np.frombuffer(header, ">u4").tolist())


def _read_at_most(stream, n_bytes):
    """Return up to `n_bytes` bytes; a header that claims more than the file has costs nothing."""
    content = bytearray()
    while chunk := stream.read(min(_CHUNK_BYTES, n_bytes - len(content))):
        content += chunk
    return content


def write_idx(path, array):
    """Write an array of bytes as a new, uncompressed IDX file.

    Parameters
    ----------
    path : str or path-like
        File to create; it must not exist.
    array : ndarray of dtype uint8
        Elements to write.
    """
    header = bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    with open(path, "xb") as file:
        file.write(header)
        file.write(np.ascontiguousarray(array, dtype=np.uint8))
