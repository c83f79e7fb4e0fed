"""What this process uses: memory, threads and open files, as Linux counts them."""

import ctypes
import os
import threading

M_MMAP_THRESHOLD = -3  # from malloc.h


def status(name):
    """Return a line of /proc/self/status as a number, in bytes where it is a size.

    Parameters
    ----------
    name : str
        Such as "RssAnon" (memory allocated and in use), "VmData" or "Threads".
    """
    with open("/proc/self/status", encoding="ascii") as file:
        value = next(line for line in file if line.startswith(name + ":")).split()[1:]
    return int(value[0]) * (1024 if value[1:] else 1)


def n_open_files():
    """Return the number of open file descriptors."""
    return len(os.listdir("/proc/self/fd")) - 1  # the listing has one itself


def give_back(always=False):
    """Let the C library return memory that was freed to the system, from now on `always`."""
    library = ctypes.CDLL(None)
    if always:  # arrays of a megabyte and more
        library.mallopt(M_MMAP_THRESHOLD, 2**20)
    library.malloc_trim(0)


class PeakMemory:
    """Measure by how much the memory allocated and in use grows at most within a block.

    The pages of mapped files do not count, nor does memory that was freed before but not given
    back. A thread looks every `interval` seconds.

    Attributes
    ----------
    added : int
        Bytes above what was in use at the start.
    """

    def __init__(self, interval=0.002):
        self.interval = interval

    def __enter__(self):
        give_back()
        self.start = self.most = status("RssAnon")
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()

    def _watch(self):
        while not self.stop.wait(self.interval):
            self.most = max(self.most, status("RssAnon"))

    @property
    def added(self):
        return self.most - self.start
