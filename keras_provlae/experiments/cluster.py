"""Runs on a Dask cluster: `--cluster=ADDRESS`."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Executor

CONNECT = 30  # seconds


@contextlib.contextmanager
def connected(address: str) -> Iterator[tuple[Executor, int]]:
    """Connects to a Dask scheduler.

    Args:
        address: Such as `"tcp://10.0.0.1:8786"`, or the path of a scheduler file.

    Yields:
        An executor on the scheduler's workers, and how many runs these train at once. Dask gives the run of a lost
        worker to another; a run that loses several workers in a row fails.

    Raises:
        ModuleNotFoundError: Without the extra `cluster`.
        OSError: If no scheduler answers.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            'A cluster needs Dask: pip install "keras_provlae[cluster]" here and on the workers.'
        ) from None
    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    with Client(**where, timeout=CONNECT, name="keras_provlae") as client:
        yield client.get_executor(), sum(client.nthreads().values())
