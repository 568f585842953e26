"""Find the real tritonserver, run it on an engine directory, and keep it serving."""

from groundserve.serving.operations import serve_operations
from groundserve.serving.server import TritonServer
from groundserve.serving.signals import sigterm_as_interrupt
from groundserve.serving.supervisor import Supervisor

__all__ = ["Supervisor", "TritonServer", "serve_operations", "sigterm_as_interrupt"]
