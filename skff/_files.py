"""Files that survive interruptions and hostile content: atomic writes and a safe container.

The container is a safetensors file: a JSON header, then the bytes of the arrays. The header's own
metadata holds what kind of object the file is of, the versions of the format and of skff, a JSON
document and the SHA-256 of it all.
"""

import hashlib
import json
import os
import secrets
import stat
from contextlib import contextmanager, suppress

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as decode
from safetensors.numpy import save as encode

import skff

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FORMAT = 1  # of the files; raised when what they hold changes meaning
NUMBERS = {
    "BOOL": "bool",
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}  # safetensors' names of the element types, and NumPy's
LARGEST_HEADER = 2**24  # bytes
DEEPEST = 32  # brackets within brackets of JSON
DENSEST = 6  # bytes per value of a long JSON text: Python takes up to 230 bytes for one
SHORT = 2**14  # bytes of JSON that may be dense
LARGEST_CODE_POINT = 0x10FFFF
LONGEST_REASON = 500  # characters: a file must not fill a log
# What reading nonsense may raise, in our own code, NumPy's and torch's.
COMPLAINTS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

_STEPS = np.zeros(256, np.int8)  # by which each byte of JSON outside strings goes deeper
_STEPS[list(b"[{")], _STEPS[list(b"]}")] = 1, -1


@contextmanager
def atomic_write(path):
    """Open a binary file that takes the place of `path` when the block ends without an error.

    Until then it lies beside the target under a name that starts with ``.skff-``. Whatever fails
    in between, a full disk or an interrupt, the previous file stays as it was and the new one is
    removed. What a killed process leaves behind is removed by the next write to the same target.

    Parameters
    ----------
    path : str or path-like
        Target; a symbolic link is followed. A new file gets the permissions of any new file, a
        replaced one keeps its own.

    Yields
    ------
    file : binary file
        To write to.

    Raises
    ------
    OSError
        If the target or its folder cannot be written to.
    ValueError
        If the target is no regular file.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    os.stat(folder)  # raises the error that names the folder, not the temporary file
    mode = _mode_to_keep(target)
    prefix = f".skff-{hashlib.sha256(os.fsencode(os.path.basename(target))).hexdigest()[:16]}-"
    _remove_abandoned(folder, prefix)
    temporary = file = None
    try:
        while file is None:
            temporary = os.path.join(folder, f"{prefix}{secrets.token_hex(8)}.tmp")
            file = _create_locked(temporary)
        yield file
        file.flush()
        os.fsync(file.fileno())
        if mode is not None:
            os.chmod(temporary, mode)
        if fcntl is None:
            file.close()  # Windows moves no open file
        os.replace(temporary, target)
        file.close()
    except BaseException:
        if file is not None:
            with suppress(OSError):
                file.close()
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise
    _sync_folder(folder)


def _create_locked(path):
    """Create a file and lock it for as long as it is open, which it is while its process lives.

    Returns
    -------
    file : binary file or None
        To write to; None if somebody took it for abandoned before it was locked.
    """
    file = open(path, "xb")
    if fcntl is None:
        return file
    with suppress(OSError):  # some file systems have no locks
        fcntl.flock(file, fcntl.LOCK_EX)
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()
    return None


def _remove_abandoned(folder, prefix):
    """Remove temporary files whose writers were killed: those that nobody has locked."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    for name in names:
        with suppress(OSError):
            _remove_if_abandoned(os.path.join(folder, name))


def _remove_if_abandoned(path):
    if fcntl is None:  # Windows removes no open file
        os.unlink(path)
        return
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where somebody writes
        os.unlink(path)


def _mode_to_keep(target):
    """Return the permissions of a file that may be replaced, or None if there is none."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"Got {target}, but expected a file: it is a folder.")
    if not stat.S_ISREG(mode):
        raise ValueError(f"Got {target}, but expected a regular file: it would be replaced.")
    if not os.access(target, os.W_OK):
        raise PermissionError(f"Got {target}, but expected a file that may be written to.")
    return stat.S_IMODE(mode)


def _sync_folder(folder):
    """Make a new name in a folder durable, on systems that can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write(path, kind, arrays, document):
    """Write arrays and a JSON document to `path`, atomically.

    Parameters
    ----------
    path : str or path-like
        File to create or replace; see :func:`atomic_write`.
    kind : str
        What the file is of; `read` asks for the same.
    arrays : dict of str -> ndarray
        Of booleans, integers, floats or text, of any shape.
    document : object
        Dicts with keys that are str, lists, str, int, float, bool and None; tuples come back as
        lists.

    Raises
    ------
    TypeError
        If an array or the document holds anything else.
    ValueError
        If the document is too deep or too large to be read again.
    OSError
        If the file cannot be written.
    """
    arrays = {name: _native(name, array) for name, array in arrays.items()}
    texts = sorted(name for name, array in arrays.items() if array.dtype.kind == "U")
    arrays |= {name: _to_code_points(arrays[name]) for name in texts}
    metadata = {
        "kind": kind,
        "format": str(FORMAT),
        "skff_version": skff.__version__,
        "content": json.dumps({"document": document, "texts": texts}, separators=(",", ":")),
    }
    metadata["sha256"] = _digest(metadata, arrays)
    data = encode(arrays, metadata)
    try:
        _parse(metadata["content"].encode())
        _parse(_split(data)[0])
    except ValueError as error:
        raise ValueError(f"Got an object for {path} that cannot be read again: {error}") from error
    with atomic_write(path) as file:
        file.write(data)


def _native(name, array):
    """Return an array as a C-ordered one of this machine's byte order."""
    array = np.asarray(array)
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    if array.dtype.kind != "U" and array.dtype.name not in NUMBERS.values():
        raise TypeError(
            f"Got {name} of type {array.dtype}, but expected numbers, booleans or text: nothing "
            "else can be saved without pickle."
        )
    return array


def _to_code_points(array):
    width = max(1, array.dtype.itemsize // 4)  # NumPy has text of width 0
    return array.astype(f"U{width}")[..., np.newaxis].view(np.uint32)


def read(path, kinds):
    """Read what :func:`write` wrote, trusting nothing.

    Parameters
    ----------
    path : str or path-like
        File to read.
    kinds : collection of str
        What the file may be of.

    Returns
    -------
    kind : str
        What it is of.
    arrays : dict of str -> ndarray
        Writable, of this machine's byte order.
    document : object
        As JSON has it.

    Raises
    ------
    ValueError
        If the file is broken, of another kind or of another format; the message names the file
        and the reason.
    OSError
        If the file cannot be opened.

    Notes
    -----
    Nothing is executed. Memory grows with the bytes that the file really holds, whatever its
    header claims.
    """
    path = os.fspath(path)
    with refusing(path):
        data = _read_bytes(path)
        header = _check_header(data)
        metadata = _check_metadata(header, kinds)
        content = _parse(metadata["content"].encode())
        arrays = _decode(data)
        if _digest(metadata, arrays) != metadata["sha256"]:
            raise ValueError("its content does not match its SHA-256, so it is damaged")
        if not isinstance(content, dict) or content.keys() != {"document", "texts"}:
            raise ValueError("its metadata has no content")
        return metadata["kind"], _restore_texts(arrays, content["texts"]), content["document"]


@contextmanager
def refusing(path):
    """Turn any complaint about what a file holds into a ValueError that names the file.

    Parameters
    ----------
    path : str or path-like
        The file.
    """
    try:
        yield
    except COMPLAINTS as error:
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(
            f"Got {os.fspath(path)!r}, but expected a whole file that skff saved: "
            f"{reason[:LONGEST_REASON]}"
        ) from error


def _read_bytes(path):
    if not stat.S_ISREG(os.stat(path).st_mode) and not os.path.isdir(path):
        raise ValueError("it is no regular file")  # a pipe would be waited for
    with open(path, "rb") as file:
        return file.read(os.fstat(file.fileno()).st_size)


def _split(data):
    """Return the header of a safetensors file, without its length before it, and the rest."""
    n_bytes = int.from_bytes(data[:8], "little")
    if len(data) < 8 or n_bytes > len(data) - 8:
        raise ValueError(
            f"it has {len(data)} bytes, which end within the header: it is truncated or no "
            "safetensors file"
        )
    return data[8 : 8 + n_bytes], memoryview(data)[8 + n_bytes :]


def _check_header(data):
    """Return the header as a dict; safetensors itself checks shapes and offsets."""
    header = _parse(_split(data)[0])
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    for name, entry in header.items():
        if name != "__metadata__" and (
            not isinstance(entry, dict) or entry.get("dtype") not in NUMBERS
        ):
            raise ValueError(f"its array {name!r} is of no known type")
    return header


def _check_metadata(header, kinds):
    metadata = header.get("__metadata__")
    names = {"kind", "format", "skff_version", "content", "sha256"}
    if not isinstance(metadata, dict) or metadata.keys() != names:
        raise ValueError("it is a safetensors file without the metadata of skff")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not text")
    if metadata["format"] != str(FORMAT):
        raise ValueError(
            f"it is of format {metadata['format']!r}, written by skff "
            f"{metadata['skff_version']!r}, while skff {skff.__version__} reads format {FORMAT}"
        )
    if metadata["kind"] not in kinds:
        raise ValueError(f"it is of kind {metadata['kind']!r}, not {' or '.join(sorted(kinds))}")
    return metadata


def _parse(text):
    """Parse JSON, in bytes, that takes a limited depth and amount of memory."""
    if len(text) > LARGEST_HEADER:
        raise ValueError(f"it has {len(text)} bytes of JSON, more than {LARGEST_HEADER}")
    marks = _outside_strings(text)
    steps = _STEPS[marks]
    depth = np.cumsum(steps, dtype=np.int32).max(initial=0)
    if depth > DEEPEST:
        raise ValueError(f"its JSON is {depth} levels deep, more than {DEEPEST}")
    n_values = np.count_nonzero(steps == 1) + np.count_nonzero(marks == ord(","))
    if len(text) > SHORT and n_values * DENSEST > len(text):
        raise ValueError(f"its JSON holds {n_values} values in {len(text)} bytes, too many")
    return json.loads(text.decode(), object_pairs_hook=_unique)


def _outside_strings(text):
    """Return the bytes of a JSON text that are not part of a string, as an array."""
    text = np.frombuffer(text.replace(rb"\\", b"").replace(rb"\"", b""), np.uint8)
    in_string = np.logical_xor.accumulate(text == ord('"'))
    return text[~in_string]


def _unique(pairs):
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("its JSON names a field twice")
    return fields


def _decode(data):
    try:
        arrays = decode(data)
    except SafetensorError as error:
        raise ValueError(f"{error}") from error
    for name, array in arrays.items():
        if array.dtype == bool and array.view(np.uint8).max(initial=0) > 1:
            raise ValueError(f"its array {name!r} has booleans that are neither 0 nor 1")
    return {
        name: array if array.flags.writeable else array.copy() for name, array in arrays.items()
    }


def _digest(metadata, arrays):
    """Return the SHA-256 of everything a file says, in hexadecimal digits."""
    described = [[name, array.dtype.name, array.shape] for name, array in sorted(arrays.items())]
    said = [metadata[name] for name in ("kind", "format", "skff_version", "content")]
    digest = hashlib.sha256(json.dumps([said, described]).encode())
    for _, array in sorted(arrays.items()):
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _restore_texts(arrays, names):
    for name in names:
        codes = arrays[name]
        if codes.dtype != np.uint32 or codes.ndim == 0 or codes.shape[-1] == 0:
            raise ValueError(f"its array {name!r} is no text")
        if codes.max(initial=0) > LARGEST_CODE_POINT:
            raise ValueError(f"its array {name!r} has characters that do not exist")
        arrays[name] = codes.view(f"U{codes.shape[-1]}")[..., 0]
    return arrays
