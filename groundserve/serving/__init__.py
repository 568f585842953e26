"""Find and run the real tritonserver on an engine directory."""

from groundserve.serving.server import TritonServer
from groundserve.serving.signals import sigterm_as_interrupt, wait_for_stop_signal

__all__ = ["TritonServer", "sigterm_as_interrupt", "wait_for_stop_signal"]
