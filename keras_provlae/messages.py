"""The package's one logger, `keras_provlae`. By default its messages are printed.

A program is quiet with `logging.getLogger("keras_provlae").setLevel(logging.WARNING)`. To have the messages in its own
log, it removes the handler that prints: `logger.handlers.clear()`, then `logger.propagate = True`.
"""

import logging
import sys

LOGGER = logging.getLogger("keras_provlae")


def say(line: object, new_line: bool = False) -> None:
    """Logs a line at level INFO.

    Args:
        line: Text, or an object whose `str` is the text.
        new_line: Whether the printed line starts anew: during `fit`, the cursor is behind the progress bar.

    Example:
        >>> say("Stage 1: rung 2 unlocked")
        Stage 1: rung 2 unlocked
    """
    LOGGER.info("%s", line, extra={"new_line": new_line})


class PrintingHandler(logging.Handler):
    """Prints messages as `print` does: to what `sys.stdout` is now, warnings to `sys.stderr`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
            start = "\n" if getattr(record, "new_line", False) else ""
            print(start + self.format(record), file=stream, flush=True)
        except Exception:
            self.handleError(record)


if not LOGGER.handlers:  # else the program that imports the package has decided
    LOGGER.addHandler(PrintingHandler())
    LOGGER.propagate = False  # or a program with a root handler would show every line twice
if LOGGER.level == logging.NOTSET:
    LOGGER.setLevel(logging.INFO)
