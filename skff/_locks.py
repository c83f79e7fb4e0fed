"""Locks around what belongs to the whole process."""

import os
import threading


def process_wide_lock():
    """Return a lock that a child process does not inherit while another thread holds it."""
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
        )
    return lock


# scikit-learn's checks enter `warnings.catch_warnings`, which swaps the filters of all threads. Two
# of them at once can leave the filters of one behind: whoever calls them holds this lock.
checks_lock = process_wide_lock()
