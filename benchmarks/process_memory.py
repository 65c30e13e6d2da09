"""What a process takes of the memory; the other programs of this folder import it."""

import os


def resident():
    """Megabytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
