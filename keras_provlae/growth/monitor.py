"""The loss around each unlock, read from the running means that a model keeps anyway."""

from typing import Any, NamedTuple

from keras import ops

WINDOW = 100  # optimizer steps between two looks at the running means


class Seen(NamedTuple):
    """One reading of the running means."""

    iteration: int
    means: dict  # {"negative_elbo": nats, "kl": nats, "rungs": [nats, deepest first]} per image, of the last steps
    before: dict | None  # the same before the last unlock; `None` where there was none
    fading: bool  # whether the newest rung fades in
    settled: bool  # whether the means are of enough steps to compare them with those before
    since_unlock: int | None  # steps since the last unlock of this `fit`


class GrowthMonitor:
    """Follows the running means of a growing model through one `fit`: before each unlock, and after it.

    A listener of `model.grow`. It looks 1, 2, 4, ... steps after an unlock, and every 100 steps.

    Args:
        model: A `GrowingVAE`.

    Attributes:
        shocks: A list of dicts, one per unlock and attempt: `stage`, `iteration`, `fade_in_steps`, `before` (the
            negative ELBO in nats, a mean of the last steps; `None` without any), `after` (pairs of the steps since the
            unlock and the negative ELBO, a mean of the last 50 of these steps or more, or of all), and `problem`, in
            words, where a guard undid it.
        next_look: The optimizer step before which `look` is due.
        last_shock: The largest rise of the negative ELBO since the last unlock, as a fraction of that before, of means
            over 50 steps or more or over what an epoch has; 0.0 where it did not rise.
    """

    def __init__(self, model: Any):
        self.shocks: list[dict[str, Any]] = []
        self.last_shock = 0.0
        self._last = self._before = self._remembered_at = None
        self.begin_epoch(model)

    def begin_epoch(self, model: Any) -> None:
        """Starts over: Keras resets the means at the start of every epoch."""
        self._marks = [(model.iteration, _Sums.of(model))]
        self.next_look = model.iteration + self._steps_to_next_look(model.iteration)

    def before_unlock(self, model: Any) -> None:
        """Remembers the means; for a second attempt at an unlock, those before the first count."""
        if model.iteration != self._remembered_at:
            self._read(model, model.iteration)
            self._before, self._remembered_at = self._last, model.iteration

    def after_unlock(self, model: Any) -> None:
        """Starts over: from here on the means are those of the new stage."""
        facts = {"stage": model.stage, "iteration": model.iteration, "fade_in_steps": model.fade_in_steps}
        before = self._before and self._before["negative_elbo"]
        self.shocks.append({**facts, "before": before, "after": []})
        self.last_shock = 0.0
        self.begin_epoch(model)

    def look(self, model: Any, iteration: int, ends_epoch: bool = False) -> Seen | None:
        """Reads the means.

        Args:
            model: The model.
            iteration: Its iteration, which is slow to read from it.
            ends_epoch: Bool. Whether an epoch ends here, so that the means are of all the steps that they can be of.

        Returns:
            A `Seen`; `None` if there was no step since the last look.
        """
        steps, means = self._read(model, iteration)
        self.next_look = iteration + self._steps_to_next_look(iteration)
        if means is None:
            return None
        fading, settled = self._is_fading(iteration), ends_epoch or steps >= WINDOW // 2
        if fading:
            shock = self.shocks[-1]
            shock["after"].append((self._since_unlock(iteration), means["negative_elbo"]))
            if settled and shock["before"] is not None:
                self.last_shock = max(self.last_shock, rise(means["negative_elbo"], shock["before"]))
        since = self._since_unlock(iteration) if self.shocks else None
        return Seen(iteration, means, self._before, fading, settled, since)

    def forget(self) -> None:
        """Drops the means before the last unlock: it can no longer be undone."""
        self._before = None

    def _read(self, model, iteration):
        """`(steps, means)` of the last `WINDOW` / 2 steps or more, where there are as many; `None` of none."""
        now = _Sums.of(model)
        far = [mark for mark in self._marks if iteration - mark[0] >= WINDOW // 2]
        marked_at, sums = far[-1] if far else self._marks[0]
        means = now.since(sums)
        self._marks = [*far[-1:], *(mark for mark in self._marks if mark not in far), (iteration, now)]
        self._last = means or self._last
        return iteration - marked_at, means

    def _since_unlock(self, iteration):
        return iteration - self.shocks[-1]["iteration"]

    def _is_fading(self, iteration):
        return bool(self.shocks) and self._since_unlock(iteration) <= max(WINDOW, self.shocks[-1]["fade_in_steps"])

    def _steps_to_next_look(self, iteration):
        """1, 1, 2, 4, ... after an unlock, so that looks are at 1, 2, 4, 8, ... steps."""
        since = self._since_unlock(iteration) if self.shocks else WINDOW
        return min(max(since, 1), WINDOW)


def rise(after: float, before: float) -> float:
    """The rise of a negative ELBO as a fraction of that before (of 1 nat, where that is less)."""
    return (after - before) / max(abs(before), 1.0)


class _Sums(NamedTuple):
    """The sums in the trackers of a model since the start of the epoch."""

    images: float
    negative_elbo: float
    kl: float
    rungs: tuple

    @classmethod
    def of(cls, model):
        def total(tracker):
            return float(ops.convert_to_numpy(tracker.total))

        images = float(ops.convert_to_numpy(model.elbo_tracker.count))
        rungs = tuple(map(total, model.rung_trackers))
        return cls(images, -total(model.elbo_tracker), total(model.kl_tracker), rungs)

    def since(self, earlier):
        """Means of what came after an earlier reading; `None` where nothing came."""
        images = self.images - earlier.images
        if images <= 0:
            return None
        pairs = zip(self.rungs, earlier.rungs, strict=True)
        return {
            "negative_elbo": (self.negative_elbo - earlier.negative_elbo) / images,
            "kl": (self.kl - earlier.kl) / images,
            "rungs": [(now - before) / images for now, before in pairs],
        }
