import pytest

from keras_provlae.experiments import runs
from keras_provlae.experiments.runner import _Clock

RUN = {"model": "VLAE", "data": "mnist", "beta": 1, "L": 3, "latent_dim": 3, "seed": 0, "iterations": 300, "size": 28}


def clock_of(count, workers):
    made = {f"run {seed}": runs.complete({**RUN, "seed": seed}) for seed in range(count)}
    time = [0.0]
    return _Clock(made, workers, now=lambda: time[0]), time


def test_the_time_left_is_that_of_the_steps_left():
    clock, time = clock_of(count=4, workers=2)
    assert str(clock) == "time left unknown"
    time[0] = 50.0  # importing, compiling
    clock.advance("run 0", 10)
    time[0] = 60.0
    clock.advance("run 0", 20)  # a second per step
    assert clock.seconds_left() == (3 * 300 + 280) / 2
    assert str(clock) == "time left 10 min"
    assert clock.share == pytest.approx(20 / 1200)
    for name in "run 0", "run 1", "run 2":
        clock.finish(name)
    assert (clock.done, clock.seconds_left()) == (3, 300)  # one run left: no use of a second worker


def test_a_run_that_goes_on_counts_the_steps_that_it_does():
    clock, time = clock_of(count=1, workers=1)
    clock.advance("run 0", 200)  # resumed: 200 steps were done before
    time[0] = 20.0
    clock.advance("run 0", 210)
    assert clock.seconds_left() == 90 * 2.0
    clock.pause("run 0")  # its worker died
    time[0] = 1000.0
    clock.advance("run 0", 200)
    assert clock.seconds_left() == 100 * 2.0
