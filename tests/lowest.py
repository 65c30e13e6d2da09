"""Prints what `make test-lowest` installs: everything that the package asks for, at the lowest version it declares.

Reads the metadata of the installed package, as pip does.
"""

import itertools
from collections.abc import Iterable
from importlib.metadata import requires

from packaging.requirements import Requirement


def lowest(requirements: Iterable[str]) -> list[str]:
    """The same requirements, of every extra, each pinned to its lower bound.

    Raises:
        ValueError: If a requirement has no lower bound, or two of them.

    Example:
        >>> lowest(["numpy>=2.0", 'pytest>=8; extra == "dev"'])
        ['numpy==2.0', 'pytest==8']
    """
    pinned = sorted({_pinned(Requirement(line)) for line in requirements})
    for one, other in itertools.pairwise(pinned):
        if one.split("==")[0] == other.split("==")[0]:
            raise ValueError(f"A package must have the same lower bound in every extra. Received: {one}, {other}.")
    return pinned


def _pinned(requirement):
    bounds = [bound.version for bound in requirement.specifier if bound.operator == ">="]
    if len(bounds) != 1:
        raise ValueError(f"Every requirement must declare one lower bound, as numpy>=2.0. Received: {requirement}.")
    return f"{requirement.name}=={bounds[0]}"


if __name__ == "__main__":
    print(*lowest(requires("keras_provlae")), sep="\n")
