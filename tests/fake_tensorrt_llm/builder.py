"""`trtllm-build`: an "engine" here is the checkpoint, the build config and the model file.

Run as a program it takes the flags and values that `signatures.json` lists, and refuses others.
"""

from __future__ import annotations

import argparse
import json
import pickle
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file

from tests.fake_tensorrt_llm import SIGNATURES, VERSION
from tests.fake_tensorrt_llm.models import QWenConfig, optimize_model
from tests.fake_tensorrt_llm.network import Network, net_guard

_FLAGS: dict[str, dict[str, Any]] = SIGNATURES["trtllm-build"]["flags"]
_SIZES = (
    "max_batch_size",
    "max_beam_width",
    "max_input_len",
    "max_seq_len",
    "max_num_tokens",
    "opt_num_tokens",
)


def parse_arguments(words: Sequence[str] | None = None) -> dict[str, Any]:
    """Read the command line; None: this process's own."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name, flag in _FLAGS.items():
        if flag.get("switch"):
            parser.add_argument(f"--{name}", action="store_true")
            continue
        kind = int if flag.get("type") == "int" else str
        if name == "kv_cache_type":
            kind = str.upper  # type: ignore[assignment] # read whatever the case
        parser.add_argument(
            f"--{name}", type=kind, choices=flag.get("choices"), default=flag.get("default")
        )
    return vars(parser.parse_args(words))


def plugin_config(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the plugins and features: switches as booleans, plugins as a type's name or None."""
    named = {"enable": True, "disable": False}
    config = {}
    for name, flag in _FLAGS.items():
        if flag.get("plugin"):
            value = named.get(arguments[name], arguments[name])
            is_feature = flag["choices"] == ["enable", "disable"]
            config[name] = None if value is False and not is_feature else value
    return config


def check_max_num_tokens(sizes: dict[str, int], tokens_per_block: int = 32) -> dict[str, int]:
    """Change sizes that do not fit together, which the library does with no more than a warning."""
    largest = sizes["max_seq_len"] * sizes["max_batch_size"]
    max_num_tokens = max(min(sizes["max_num_tokens"], largest), tokens_per_block)
    return {
        **sizes,
        "max_num_tokens": max_num_tokens,
        "opt_num_tokens": min(sizes["opt_num_tokens"], max_num_tokens),
    }


def load_model_class(path: Path, name: str) -> Any:
    """Import a model file by its path, as the library does."""
    loader = SourceFileLoader("models", str(path))
    module = module_from_spec(spec_from_loader("models", loader))
    loader.exec_module(module)
    return getattr(module, name)


def save_timing_cache(read: str | None, out_path: str) -> None:
    """Write what was read, and the timings of one build more."""
    known = Path(read).read_bytes() if read is not None and Path(read).exists() else b""
    Path(out_path).write_bytes(known + b"+timed")


def main(words: Sequence[str] | None = None) -> None:
    arguments = parse_arguments(words)
    output_dir = Path(arguments["output_dir"])
    output_dir.mkdir(parents=True, exist_ok=True)
    load_model_class(Path(arguments["model_cls_file"]), arguments["model_cls_name"])
    checkpoint_dir = Path(arguments["checkpoint_dir"])
    pretrained = json.loads((checkpoint_dir / "config.json").read_text())
    sizes = check_max_num_tokens({size: arguments[size] for size in _SIZES})
    build_config = {
        **sizes,
        "kv_cache_type": arguments["kv_cache_type"],
        "plugin_config": {"dtype": pretrained["dtype"], **plugin_config(arguments)},
    }
    engine = {
        "file": arguments["model_cls_file"],
        "name": arguments["model_cls_name"],
        "pretrained": pretrained,
        "build": build_config,
        "weights": load_file(checkpoint_dir / "rank0.safetensors"),
    }
    Deserialized(engine)  # every error of the network shows at build time
    # Before the engine is saved: where this fails, the build was for nothing.
    save_timing_cache(arguments["input_timing_cache"], arguments["output_timing_cache"])
    (output_dir / "rank0.engine").write_bytes(pickle.dumps(engine))
    config = {"version": VERSION, "pretrained_config": pretrained, "build_config": build_config}
    (output_dir / "config.json").write_text(json.dumps(config))


class Deserialized:
    """An engine in memory: the model with its weights and the network's inputs and outputs."""

    def __init__(self, engine: dict[str, Any]) -> None:
        model_class = load_model_class(Path(engine["file"]), engine["name"])
        build_config = engine["build"]
        plugins = SimpleNamespace(**build_config["plugin_config"])
        self.model = model_class(QWenConfig.from_dict(engine["pretrained"]))
        self.model.load(engine["weights"])
        self.model = optimize_model(
            self.model, share_embedding_table=True, use_fused_mlp=plugins.use_fused_mlp
        )
        self.network = Network(plugins)
        with net_guard(self.network):
            self.arguments = self.model.prepare_inputs(
                **{size: build_config[size] for size in _SIZES},
                use_cache=build_config["kv_cache_type"] != "DISABLED",
                prompt_embedding_table_size=0,
                max_draft_len=0,
                speculative_decoding_draft_tokens_external=False,
                gather_context_logits=False,
                lora_target_modules=None,
            )
        self._check_named_dimensions()
        # The smallest pass there is, for the outputs' names and types.
        values = {
            name: torch.zeros(tensor.profile(0), dtype=tensor.declared_dtype.value)
            for name, tensor in self.network.inputs.items()
        }
        values["host_runtime_perf_knobs"] -= 1
        for name in ("context_lengths", "host_context_lengths", "host_max_attention_window_sizes"):
            values[name] += 1
        self.run(values)

    def run(self, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Compute the outputs."""
        for name, tensor in self.network.inputs.items():
            tensor.feed(values[name])
        with net_guard(self.network):
            self.model(**self.arguments)
        return {
            name: tensor.held.to(tensor.dtype.value)
            for name, tensor in self.network.outputs.items()
        }

    def _check_named_dimensions(self) -> None:
        seen: dict[str, Any] = {}
        for tensor in self.network.inputs.values():
            for name, ranges in tensor.dim_range.items():
                assert seen.setdefault(name, ranges) == ranges, name
