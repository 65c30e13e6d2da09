import pytest

from keras_provlae.experiments import runs
from keras_provlae.experiments.runner import _Clock

RUN = {"model": "VLAE", "data": "mnist", "beta": 1, "L": 3, "latent_dim": 3, "seed": 0, "iterations": 300, "size": 28}


def clock_of(count, workers, more=()):
    made = [*({**RUN, "seed": seed} for seed in range(count)), *more]
    time = [0.0]
    named = {f"run {number}": runs.complete(run) for number, run in enumerate(made)}
    return _Clock(named, workers, now=lambda: time[0]), time


def spent(training, scores=0.0):
    return {"training": training, "scores": scores}


def test_the_time_left_is_that_of_the_steps_left():
    clock, time = clock_of(count=4, workers=2)
    assert str(clock) == "time left unknown"
    time[0] = 50.0  # importing, compiling
    clock.advance("run 0", 10, spent(20.0))
    time[0] = 60.0
    clock.advance("run 0", 20, spent(30.0))  # a second per step
    assert clock.seconds_left() == ((3 * 300 + 280) / 2, 4)
    assert str(clock) == "time left 10 min, and the scores of 4 of the runs, not timed yet"
    assert clock.share == pytest.approx(20 / 1200)
    for name in "run 0", "run 1", "run 2":
        clock.finish(name)
    assert (clock.done, clock.seconds_left()) == (3, (300, 1))  # one run left: no use of a second worker


def test_a_run_that_goes_on_counts_the_steps_that_it_does():
    clock, time = clock_of(count=1, workers=1)
    clock.advance("run 0", 200, spent(150.0))  # resumed: 200 steps were done before
    time[0] = 20.0
    clock.advance("run 0", 210, spent(170.0))
    assert clock.seconds_left()[0] == 90 * 2.0
    clock.pause("run 0")  # its worker died
    time[0] = 1000.0
    clock.advance("run 0", 200, spent(150.0))
    assert clock.seconds_left()[0] == 100 * 2.0


def test_the_time_left_counts_the_scores():
    """Hours of scores after seconds of training: what the runs with the same images and scores took."""
    fewer = {"num_images": 20_000}
    clock, time = clock_of(count=2, workers=1, more=[{**RUN, **fewer}, {**RUN, **fewer, "model": "beta-VAE"}])
    for done in 100, 300:
        clock.advance("run 0", done, spent(done / 10, scores=done))  # the scores of stages are not time of steps
    assert clock.seconds_left() == (3 * 300 / 10, 4)
    clock.finish("run 0", {"finite": True, "seconds": spent(30.0, scores=1500.0)})
    assert clock.seconds_left() == (90 + 1500, 2)  # of 20,000 images none was scored
    clock.advance("run 1", 300, spent(30.0, scores=400.0))
    time[0] = 1000.0  # it scores the last time
    assert clock.seconds_left() == (60 + 100, 2)
    time[0] = 9000.0
    assert clock.seconds_left() == (60, 2)
    clock.finish("run 1", {"finite": False, "seconds": spent(30.0, scores=1.0)})  # which was not scored to its end
    clock.finish("run 2", {"finite": True, "seconds": spent(30.0, scores=200.0)})
    assert clock.seconds_left() == (30 + 200, 0)  # another model, scored like that
    assert str(clock) == "time left 4 min"
