"""Libraries that come with an extra, imported at their first use: `extras.torch.cat(tensors)`.

So modules can be imported without them, and where one is missing the error names its extra.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from groundserve.errors import MissingExtraError

if TYPE_CHECKING:
    import anyio.from_thread
    import google.protobuf.text_format
    import grpc
    import httpx2
    import huggingface_hub.errors
    import matplotlib.figure
    import onnxruntime
    import openai
    import PIL.Image
    import tokenizers.decoders
    import tokenizers.processors
    import torch
    import tritonclient.grpc.model_config_pb2
    import tritonclient.utils
    import yaml

__all__ = [
    "PIL",
    "anyio",
    "google",
    "grpc",
    "httpx2",
    "huggingface_hub",
    "load",
    "matplotlib",
    "onnxruntime",
    "openai",
    "tokenizers",
    "torch",
    "tritonclient",
    "yaml",
]

_MODULES = {
    "PIL": ("serve", "PIL.Image"),
    "anyio": ("serve", "anyio.from_thread"),
    "google": ("client", "google.protobuf.text_format"),
    "grpc": ("client", "grpc"),
    "httpx2": ("client", "httpx2"),
    "huggingface_hub": ("build", "huggingface_hub.errors"),
    "matplotlib": ("serve", "matplotlib.figure"),
    "onnxruntime": ("serve", "onnxruntime"),
    "openai": ("serve", "openai"),
    "tokenizers": ("serve", "tokenizers.decoders", "tokenizers.processors"),
    "torch": ("build", "torch"),
    "tritonclient": ("client", "tritonclient.grpc.model_config_pb2", "tritonclient.utils"),
    "yaml": ("build", "yaml"),
}
"""By library its extra, and the modules of it that are used."""


def load(module: str, extra: str) -> ModuleType:
    """Import a module that needs an extra, or raise a MissingExtraError that says how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(extra, error.name or module.partition(".")[0]) from error


if not TYPE_CHECKING:  # for a type checker, any name would be one of this module's

    def __getattr__(name: str) -> Any:
        """Import a library."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        extra, *modules = _MODULES[name]
        for module in modules:
            load(module, extra)
        return sys.modules[name]
