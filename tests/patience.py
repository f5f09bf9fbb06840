"""Timeouts that a busy host does not use up.

A process that is kept waiting for a CPU stands still, and so does the machine that it emulates. Linux counts that time for each
thread (/proc/PID/schedstat, the second number, in ns), and here it does not count: a timeout is time in which the process had a CPU or
wanted none. TIMEOUT_SCALE in the environment multiplies every timeout besides.
"""
import os
import time
from pathlib import Path

TIMEOUT_SCALE = float(os.environ.get("TIMEOUT_SCALE", "1"))
# However long the host keeps the process waiting, this many times the timeout is the end.
LIMIT = 10


def kept_waiting(pid):
    """{thread: seconds} for which the process's threads have waited for a CPU; empty where the kernel does not tell, or it is gone."""
    waits = {}
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            waits[task.parent.name] = int(task.read_text().split()[1]) / 1e9
        except (OSError, IndexError):       # it ended meanwhile
            pass
    return waits


class Waits:
    """How long the host keeps process pid waiting, from now on."""

    def __init__(self, pid):
        self.pid, self.begin, self.before = pid, time.monotonic(), kept_waiting(pid)

    def elapsed(self):
        return time.monotonic() - self.begin

    def seconds(self):
        """Of the thread that waited longest: others may have waited for it."""
        return max((now - self.before.get(task, 0) for task, now in kept_waiting(self.pid).items()), default=0)


class Patience(Waits):
    """What is left of a timeout of so many seconds for process pid, from now on."""

    def __init__(self, seconds, pid):
        super().__init__(pid)
        self.timeout = seconds * TIMEOUT_SCALE

    def left(self):
        """Seconds; not above 0 when it is used up."""
        elapsed = self.elapsed()
        return self.timeout - max(elapsed - self.seconds(), elapsed / LIMIT)
