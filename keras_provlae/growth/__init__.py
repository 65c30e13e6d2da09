"""When a ladder grows, and what an unlock did: schedule, callback, automatic growth, monitor and guard."""

from keras_provlae.growth.auto import Advice, AutoGrowth
from keras_provlae.growth.callback import GrowthCallback
from keras_provlae.growth.guard import GrowthGuard
from keras_provlae.growth.schedule import GrowthSchedule

__all__ = ["Advice", "AutoGrowth", "GrowthCallback", "GrowthGuard", "GrowthSchedule"]
