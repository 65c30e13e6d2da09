"""Observers for `fit`: they measure and draw the model as it grows."""

from keras_provlae.callbacks.csv_logger import CSVLogger
from keras_provlae.callbacks.observers import DisentanglementMonitor, InformationFlow, PosteriorObserver
from keras_provlae.callbacks.snapshots import TraversalSnapshots

__all__ = ["CSVLogger", "DisentanglementMonitor", "InformationFlow", "PosteriorObserver", "TraversalSnapshots"]
