import runpy
import sys

import numpy as np
import pytest
from absl import flags

from keras_provlae.experiments import runs


@pytest.fixture(scope="session")
def made_up():
    """Makes a result without training: `made_up(run, mi=..., mig=..., ...)`."""

    def make(run, mi=None, totals=None, finite=True, peak_variance=1.0, kl=10.0, **scores):
        run = runs.complete(run)
        ends = runs.stage_ends(run)
        stages = []
        for stage, iteration in enumerate(ends):
            unlocked = range(run["L"], run["L"] - 1 - stage, -1) if len(ends) > 1 else range(run["L"], 0, -1)
            values = [1.0] * len(unlocked) if mi is None else mi[stage]
            stages.append(
                {
                    "stage": stage,
                    "iteration": iteration,
                    "mi": dict(zip(map(str, unlocked), values, strict=True)),
                    "mi_total": float(np.sum(values)) if totals is None else totals[stage],
                    "ceiling": 10.0,
                }
            )
        real = run["data"] in ("mnist", "celeb_a")
        result = {"run": run, "key": runs.key(run), "data": f"{run['data']}, {'real' if real else 'procedural'}"}
        result |= {"real": real, "finite": finite, "stages": stages, "peak_variance": peak_variance}
        result |= {"versions": {"keras": "3.0", "backend": "tensorflow 2.0"}, "stopped_at": run["iterations"]}
        result |= {"seconds": {"training": 60.0, "scores": 6.0}, "reconstruction": 1000.0, "kl": kl, "images": 480_000}
        result["scores"] = {"mig": 0.1, "mig_sup": 0.1, "factor_vae_score": 0.2, "active_latents": 5.0, **scores}
        return result

    return make


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs `python -m keras_provlae.experiments` in this process; returns its exit code and output."""

    def run(*arguments):
        known = set(flags.FLAGS)
        monkeypatch.setattr(sys, "argv", ["keras_provlae.experiments", *arguments])
        try:
            with pytest.raises(SystemExit) as ended:
                runpy.run_module("keras_provlae.experiments", run_name="__main__")
        finally:
            for name in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, name)
            flags.FLAGS.unparse_flags()
        return ended.value.code, "".join(capsys.readouterr())

    return run
