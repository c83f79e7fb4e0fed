"""Attack every reader of files: skff.load and skff.datasets.load_idx.

Whole files are damaged, forged or replaced by other formats, thousands of times::

    python examples/stress/fuzz_files.py
    python examples/stress/fuzz_files.py --seed 7 --n 20000
    python examples/stress/fuzz_files.py --smoke

Each file must be refused with a ValueError (or OSError) that names it, or give an object that
works. Meanwhile nothing may be executed, and the memory that Python and NumPy take at their peak
must stay within a few times the file's size (for IDX files, of what is in the gzip file); a limit
on the address space catches what they do not see. The exit status is 1 if anything else happens.
"""

import argparse
import contextlib
import gzip
import io
import json
import os
import pickle
import resource
import struct
import sys
import tempfile
import tracemalloc
import warnings
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from sklearn.linear_model import LogisticRegression

import skff
from skff import _files
from skff._idx import write_idx
from skff.datasets import load_idx

FACTOR, ALLOWANCE = 12, 2**21  # allowed peak of memory: times the file's size, and bytes besides
LARGEST_DEFLATION = 1032  # bytes that one byte of a gzip file can stand for
ADDRESS_SPACE = 2**30  # bytes that the process may take beyond what it has when the attacks begin
EXECUTION = ("os.system", "subprocess.Popen", "pickle.find_class", "os.exec", "exec", "compile")
NUMBERS = [0, 1, -1, 2**31, 2**40, 2**63, 2**64, 10**30, 1e308, float("nan"), float("inf")]
NONSENSE = [*NUMBERS, None, True, "", "evil", [], {}, [[]], {"array": "classes"}, {"tuple": []}]


def main(argv=None):
    """Attack, print what happened to each kind of file, and say whether all was well."""
    options = parse_options(argv)
    rng = np.random.default_rng(options.seed)
    watch = Watch()
    report = defaultdict(Row)
    with tempfile.TemporaryDirectory() as folder:
        originals = make_files(Path(folder))
        warm_up(originals)
        limit_memory()
        path = Path(folder) / "attacked"
        for attack, content, reader in attacks(originals, options.n, rng):
            path.write_bytes(content)
            report[attack].add(*judge(path, reader, watch), size_held(content, reader))
    return print_report(report)


def parse_options(argv):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=4000, help="random attacks in all")
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    options = parser.parse_args(argv)
    options.n = 200 if options.smoke else options.n
    return options


# What is attacked


def make_files(folder):
    """Return the bytes of whole files by name, and whether they are IDX."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, 16)).astype(np.float32)
    y = rng.integers(3, size=90)
    settings = {"max_iter": 2, "random_state": 0, "device": "cpu"}
    fitted = skff.FFClassifier((9, 7), readout="softmax", **settings).fit(X, y)
    settings["random_state"] = np.random.RandomState(0)
    labels = np.array(["a", "b", "c"])[y]
    learning = skff.FFClassifier((9, 7), **settings).partial_fit(X, labels, classes=["a", "b", "c"])
    model = LogisticRegression().fit(X, labels)
    explanation = skff.ADSExplainer(model, image_shape=(4, 4)).explain(X, labels)
    originals = {}
    for name, obj in (("fitted", fitted), ("learning", learning), ("map", explanation)):
        skff.save(obj, folder / name)
        originals[name] = (folder / name).read_bytes(), skff.load
    write_idx(folder / "idx", rng.integers(256, size=(20, 8, 8)).astype(np.uint8))
    plain = (folder / "idx").read_bytes()
    return originals | {"idx": (plain, load_idx), "idx.gz": (gzip.compress(plain), load_idx)}


def warm_up(originals):
    """Let everything be imported that reading and refusing files imports."""
    for content, reader in originals.values():
        for damaged in (content, content[:-1]):
            with tempfile.NamedTemporaryFile() as file:
                file.write(damaged)
                file.flush()
                judge(Path(file.name), reader, Watch())


# Attacks: (name, content, reader)


def attacks(originals, n_random, rng):
    """Yield every attack."""
    for name, (content, reader) in originals.items():
        yield f"{name}: whole", content, reader
        for percent in range(100):
            yield f"{name}: cut at every 1 %", content[: len(content) * percent // 100], reader
    readers = {"foreign": skff.load, "foreign, as IDX": load_idx}
    for name, reader in readers.items():
        for content in foreign_formats():
            yield name, content, reader
    for name, (content, reader) in originals.items():
        if reader is skff.load:
            yield from ((f"{name}: forged header", c, reader) for c in forged_headers(content))
    for _ in range(n_random):
        name = rng.choice(list(originals))
        content, reader = originals[name]
        kinds = RANDOM_ATTACKS if reader is skff.load else BLIND_ATTACKS
        kind = rng.choice(list(kinds))
        yield f"{name}: {kind}", kinds[kind](content, rng), reader


def flip(content, rng, end=None):
    """Flip one to three bits, before `end`."""
    content = bytearray(content)
    for place in rng.integers(end or len(content), size=rng.integers(1, 4)):
        content[place] ^= 1 << rng.integers(8)
    return bytes(content)


def flip_in_header(content, rng):
    """Flip bits where the file describes itself."""
    return flip(content, rng, end=min(len(content), header_size(content)))


def header_size(content):
    """Return the bytes before the data, of a safetensors or any other file."""
    claimed = 8 + int.from_bytes(content[:8], "little")
    return claimed if claimed <= len(content) else 20


def change_a_piece(content, rng):
    """Insert, remove, repeat or overwrite some bytes."""
    place, size = rng.integers(len(content)), int(rng.integers(1, 200))
    piece = [rng.bytes(size), b"", content[place : place + size] * 2, bytes(size)]
    return content[:place] + piece[rng.integers(4)] + content[place + size :]


def random_bytes(content, rng):
    """Return noise, sometimes behind the original's first bytes."""
    return content[: rng.choice([0, 2, 8, 64])] + rng.bytes(int(rng.integers(0, 5000)))


def parse(content):
    """Return a file's header, the JSON of its content, and its data."""
    size = header_size(content)
    header = json.loads(content[8:size])
    return header, json.loads(header["__metadata__"]["content"]), content[size:]


def build(header, inner, data, *, text=None):
    """Return a file with the right lengths and, where its arrays can be read, the right hash."""
    header = json.loads(json.dumps(header))
    metadata = header["__metadata__"]
    metadata["content"] = json.dumps(inner) if text is None else text

    def packed():
        packed = json.dumps(header).encode()
        return struct.pack("<Q", len(packed)) + packed + data

    try:
        metadata["sha256"] = _files._digest(metadata, _files._decode(packed()))
    except Exception:
        pass  # the header is broken in a way that no hash can hide
    return packed()


def forge_value(content, rng):
    """Put nonsense in place of a random value of the document; the hash is right."""
    header, inner, data = parse(content)
    node, key = random_place(inner, rng)
    node[key] = NONSENSE[rng.integers(len(NONSENSE))]
    return build(header, inner, data)


def random_place(node, rng):
    """Return a container and a key, going down at random."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = keys[rng.integers(len(keys))]
        child = node[key]
        if not isinstance(child, dict | list) or not child or rng.random() < 0.1:
            return node, key
        node = child


def forge_text(content, rng):
    """Change characters of the document's JSON; the hash is right."""
    header, inner, data = parse(content)
    text = list(json.dumps(inner))
    for place in rng.integers(len(text), size=rng.integers(1, 4)):
        text[place] = chr(rng.integers(32, 127))
    return build(header, inner, data, text="".join(text))


def forge_array(content, rng):
    """Change type or shape of an array, or swap two of them; the hash is right."""
    header, inner, data = parse(content)
    names = [name for name in header if name != "__metadata__"]
    one, other = (header[names[i]] for i in rng.integers(len(names), size=2))
    way = rng.integers(5)
    if way == 0:
        one["dtype"] = str(rng.choice([*_files.NUMBERS, "BF16", "C64", "F4", "evil"]))
    elif way == 1:
        one["shape"] = one["shape"][::-1]
    elif way == 2:
        one["shape"] = [int(np.prod(one["shape"], dtype=int))]
    elif way == 3:
        one["data_offsets"], other["data_offsets"] = other["data_offsets"], one["data_offsets"]
    else:
        header[names[rng.integers(len(names))]] = header.pop(names[0])
    return build(header, inner, data)


def forge_elements(content, rng):
    """Change bytes of the arrays; the hash is right."""
    header, inner, data = parse(content)
    data = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 10)):
        data[place] = rng.choice([0, 1, 127, 128, 255])
    return build(header, inner, bytes(data))


BLIND_ATTACKS = {
    "bits flipped": flip,
    "bits flipped in the header": flip_in_header,
    "a piece changed": change_a_piece,
    "random bytes": random_bytes,
}
RANDOM_ATTACKS = BLIND_ATTACKS | {
    "value forged": forge_value,
    "JSON forged": forge_text,
    "array forged": forge_array,
    "elements forged": forge_elements,
}


def forged_headers(content):
    """Yield files whose headers lie about sizes, names and depth."""
    header, inner, data = parse(content)
    name = next(name for name in header if name != "__metadata__")
    for size in (0, 1, 2**20, 2**32, 2**63, 2**64 - 1):
        yield struct.pack("<Q", size) + content[8:]
    for shape in ([2**40], [2**63], [2**64], [0, 2**62], [1] * 100, [-1], [2**40] * 3, [1.5], "x"):
        yield build(header | {name: header[name] | {"shape": shape}}, inner, data)
        everything = {"dtype": "U8", "shape": shape, "data_offsets": [0, len(data)]}
        yield build({"__metadata__": header["__metadata__"], name: everything}, inner, data)
    for offsets in ([0, 2**40], [2**63, 2**64], [5, 1], [-1, 3], [0], None, [0, len(data)]):
        yield build(header | {name: header[name] | {"data_offsets": offsets}}, inner, data)
    texts = [
        json.dumps(header)[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}",
        json.dumps(header).replace('{"__metadata__"', '{"__metadata__": {}, "__metadata__"', 1),
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[" + "[]," * 200_000 + "0]",
        "[" + '{"a":1},' * 100_000 + "0]",
        "[" + "1," * 300_000 + "0]",
        '["' + "\\" * 300_000 + '"]',
        "9" * 100_000,
        '"' * 99_999,
        json.dumps({str(i): header[name] for i in range(20_000)}),
        "{",
        "null",
        "",
    ]
    for text in texts:
        yield struct.pack("<Q", len(text)) + text.encode() + data
        yield build(header, inner, data, text=text)
    twice = json.dumps(inner)[:-1] + ', "texts": []}'
    yield build(header, inner, data, text=twice)
    for change in (
        {"format": "2"},
        {"format": ""},
        {"kind": "evil"},
        {"skff_version": "x" * 10**6},
    ):
        yield build(header | {"__metadata__": header["__metadata__"] | change}, inner, data)
    yield build(header, inner, data + bytes(10))
    yield build(header, inner | {"texts": [name] * 1000}, data)
    yield build(header, inner | {"texts": 7}, data)
    long_text = np.full((1, 100_000), 0x10FFFF, dtype=np.uint32)
    arrays = safetensors.numpy.load(content) | {name: long_text}
    yield safetensors.numpy.save(arrays, header["__metadata__"])


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        """Return the command."""
        return os.system, ("echo executed >&2",)


def foreign_formats():
    """Yield files of other formats, some of them meant to do harm."""
    yield from (
        b"",
        b"\0",
        bytes(8),
        bytes(10**5),
        b"label,score\n" * 100,
        b"\x89PNG\r\n\x1a\n" * 9,
    )
    yield from (pickle.dumps(Evil()), pickle.dumps(np.ones(100)), b"\x1f\x8b" + bytes(50))
    bomb = np.zeros(2**24, dtype=np.uint8)
    for save in (np.save, np.savez_compressed, lambda file, array: torch.save(array, file)):
        buffer = io.BytesIO()
        save(buffer, bomb)
        yield buffer.getvalue()[: 2**20]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", bytes(2**24))
    yield buffer.getvalue()
    yield safetensors.numpy.save({"x": np.ones(3)})
    yield safetensors.numpy.save({"x": np.ones(3)}, {"kind": "FFClassifier"})
    yield gzip.compress(bytes(2**24))
    for shape in ((2**31,), (2**31, 2**31), (0, 2**31), (1,) * 64, (2**16, 2**16)):
        idx = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        yield from (idx, idx + bytes(100), gzip.compress(idx), gzip.compress(idx + bytes(2**22)))


# What happens


class Watch:
    """Notes whatever would run code while it is on."""

    def __init__(self):
        self.on = False
        self.events = []
        sys.addaudithook(self._note)

    def _note(self, event, arguments):
        if self.on and event.startswith(EXECUTION):
            self.events.append(event)


def size_held(content, reader):
    """Return the bytes that a file holds, unpacked if the reader unpacks it."""
    is_packed = reader is load_idx and content[:2] == b"\x1f\x8b"
    return len(content) * (LARGEST_DEFLATION if is_packed else 1)


def limit_memory():
    """Let the process take only so much more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def judge(path, reader, watch):
    """Read a file; return what happened, the peak of memory and what was wrong, if anything."""
    found = error = None
    watch.events.clear()
    tracemalloc.start()
    watch.on = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = reader(path)
    except (ValueError, OSError) as refusal:
        error = refusal
    except BaseException as crash:
        return "crashed", 0, f"{type(crash).__name__}: {crash}"
    finally:
        watch.on = False
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if watch.events:
        return "crashed", peak, f"executed {watch.events[0]}"
    if error is not None:
        named = isinstance(error, OSError) or str(path) in str(error)
        return "refused", peak, None if named else f"no file in {error}"
    try:
        use(found)
    except Exception as crash:
        return "loaded", peak, f"a loaded object failed: {type(crash).__name__}: {crash}"
    return "loaded", peak, None


def use(found):
    """Do what one does with a loaded object; training may refuse parameters that were forged."""
    if isinstance(found, skff.FFClassifier):
        repr(found)
        if hasattr(found, "classes_"):
            X = np.random.default_rng(0).normal(size=(30, found.n_features_in_)).astype("f4")
            assert np.isfinite(found.predict_proba(X)).all()
            assert found.loss_curves_.shape[0] == found.n_layers_
            with contextlib.suppress(ValueError), contextlib.redirect_stdout(io.StringIO()):
                found.partial_fit(X, found.classes_[np.arange(30) % len(found.classes_)])
            assert np.isfinite(found.predict_proba(X)).all()
    elif isinstance(found, skff.ADSExplanation):
        repr(found)
        if found.p_values is not None and found.n_samples > 1:
            found.significant()


class Row:
    """What one kind of attack led to."""

    def __init__(self):
        self.n = self.refused = self.loaded = 0
        self.worst_peak = self.worst_ratio = 0.0
        self.failures = []

    def add(self, outcome, peak, failure, size):
        """Count one file."""
        self.n += 1
        self.refused += outcome == "refused"
        self.loaded += outcome == "loaded"
        self.worst_peak = max(self.worst_peak, peak)
        self.worst_ratio = max(self.worst_ratio, (peak - ALLOWANCE) / max(size, 1))
        if failure is None and peak > ALLOWANCE + FACTOR * size:
            failure = f"took {peak:,} bytes for a file of {size:,}"
        if failure is not None:
            self.failures.append(failure)


def print_report(report):
    """Print a line per attack and the verdict; return the exit status."""
    print(f"{'attack':<42}{'files':>8}{'refused':>9}{'loaded':>8}{'peak MB':>9}{'x size':>8}")
    for attack, row in report.items():
        print(
            f"{attack:<42}{row.n:>8}{row.refused:>9}{row.loaded:>8}"
            f"{row.worst_peak / 1e6:>9.2f}{max(row.worst_ratio, 0):>8.1f}"
        )
    failures = [(attack, failure) for attack, row in report.items() for failure in row.failures]
    for attack, failure in failures[:20]:
        print(f"FAILED {attack}: {failure[:300]}")
    n_files = sum(row.n for row in report.values())
    print(
        f"{n_files} files, {len(failures)} failures "
        f"(x size: peak beyond {ALLOWANCE / 2**20:.0f} MiB over the file's size, at most {FACTOR})"
    )
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
