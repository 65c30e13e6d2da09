import logging
import re
from pathlib import Path

import pytest

import keras_provlae as kp
from keras_provlae.messages import LOGGER, say

PACKAGE = Path(kp.__file__).parent


@pytest.fixture
def logger():
    """The logger; its level and handlers are put back after the test."""
    kept = LOGGER.level, list(LOGGER.handlers), LOGGER.propagate
    yield logging.getLogger("keras_provlae")
    LOGGER.level, LOGGER.handlers[:], LOGGER.propagate = kept
    LOGGER.setLevel(kept[0])


def test_messages_are_printed_by_default(capsys):
    say("a line")
    say(3, new_line=True)
    LOGGER.warning("%d of %s", 1, "those")
    assert capsys.readouterr() == ("a line\n\n3\n", "1 of those\n")


def test_a_program_can_be_quiet(logger, capsys):
    logger.setLevel(logging.WARNING)
    kp.datasets.shapes3d("procedural")
    say("a line")
    assert capsys.readouterr() == ("", "")


def test_a_program_can_have_the_messages_in_its_own_log(logger, capsys, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [caplog.handler])  # absl adds one when a program has run
    logger.handlers.clear()
    logger.propagate = True
    say("a line", new_line=True)
    assert caplog.messages == ["a line"]
    assert capsys.readouterr() == ("", "")


def test_the_package_has_no_other_print():
    """What a command prints is its output."""
    users = {path.name for path in PACKAGE.rglob("*.py") if re.search(r"^ *print\(", path.read_text(), re.MULTILINE)}
    assert users == {"messages.py", "__main__.py"}
