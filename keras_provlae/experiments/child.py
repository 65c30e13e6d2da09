"""A process of its own for the runs of an executor's worker: a line of JSON for each run, and a line back.

Other threads of a worker, such as Dask's, draw from Python's random numbers, which Keras draws seeds from: trained
beside them, a run would not have the numbers of its seed.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

THREADS = "OMP_NUM_THREADS"  # Dask's workers have it at 1


class Child:
    """Starts the process with the first run, and again if it died.

    Args:
        command: Command of the process; it gets the number of the file for its answers as one more argument.
    """

    def __init__(self, command: tuple[str, ...] = (sys.executable, "-m", "keras_provlae.experiments.child")) -> None:
        self.command = command
        self.process: subprocess.Popen | None = None

    def execute(self, run: dict, folder: str, source: str | None) -> dict[str, Any]:
        """Returns what `training.execute` returns in that process.

        Raises:
            RuntimeError: If it raised an error, which the message has, or the process died.
        """
        process = self._started()
        try:
            process.stdin.write(json.dumps({"run": run, "folder": folder, "source": source}) + "\n")
            process.stdin.flush()
            answer = json.loads(self.answers.readline() or "null")
        except (BrokenPipeError, json.JSONDecodeError):
            answer = None
        if answer is None:
            self.process = None
            for pipe in (process.stdin, self.answers):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            raise RuntimeError(f"The process of the training died (exit code {process.wait()}).")
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def _started(self) -> Any:
        if self.process is None or self.process.poll() is not None:
            ours, theirs = os.pipe()
            self.process = subprocess.Popen(
                [*self.command, str(theirs)], stdin=subprocess.PIPE, pass_fds=[theirs], text=True
            )
            os.close(theirs)
            self.answers = os.fdopen(ours)
        return self.process


def exit_with(parent: int) -> None:
    """Exits this process when its parent is gone; the last checkpoint is enough to resume."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def use_threads(threads: int) -> None:
    """Limits a worker to its share of the cores; call it before the first operation."""
    import keras

    from keras_provlae.lazy_tensorflow import tf

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads)
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def attempted(execute: Callable[..., dict], *request: Any) -> tuple[str, Any]:
    """Executes a run: returns `("result", its result)`, or `("error", its traceback)`; frees the model's memory."""
    import keras

    try:
        return "result", execute(*request)
    except Exception:
        return "error", traceback.format_exc()
    finally:
        keras.backend.clear_session()


def main(answers: str) -> None:
    """Trains the runs that arrive on the standard input, until it ends or the parent is gone."""
    threading.Thread(target=exit_with, args=(os.getppid(),), daemon=True).start()
    if os.environ.get(THREADS, "").isdecimal():
        use_threads(int(os.environ[THREADS]))
    from keras_provlae.experiments.training import execute

    with os.fdopen(int(answers), "w") as out:
        for line in sys.stdin:
            request = json.loads(line)
            answer = attempted(execute, request["run"], request["folder"], None, request["source"])
            out.write(json.dumps(dict([answer])) + "\n")
            out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
