"""Watching a training loop of the user's own: probes at a bounded cost, answers in words, the report at the end."""

from gramian.monitor.callbacks import LightningMonitor, TrainerMonitor
from gramian.monitor.monitor import Monitor

__all__ = ["LightningMonitor", "Monitor", "TrainerMonitor"]
