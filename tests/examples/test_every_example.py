import re

import pytest

from tests.conftest import REPOSITORY

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


def test_help_explains_every_flag(answers):
    text = " ".join(answers["help"].stdout.split())
    flags = re.findall(r'flags.DEFINE_\w+\(\s*"(\w+)"', (REPOSITORY / "examples/shapes3d.py").read_text())
    assert len(flags) >= 8
    for flag in flags:
        assert f"--{flag}:" in text or f"--[no]{flag}:" in text, flag


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_is_short(example):
    assert len(example.read_text().splitlines()) < 120


def test_every_example_is_trained(trained):
    assert sorted([*trained, "serve"]) == [example.stem for example in EXAMPLES]
