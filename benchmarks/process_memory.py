"""Memory of this process, for the other benchmarks."""

import os


def resident():
    """Returns the resident set size in megabytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
