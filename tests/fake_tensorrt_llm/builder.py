"""`trtllm-build`: an "engine" here is the checkpoint, the build config and the model file.

Run as a program it takes the flags that `signatures.json` lists, and refuses others.
"""

from __future__ import annotations

import argparse
import json
import pickle
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from tests.fake_tensorrt_llm import SIGNATURES, VERSION
from tests.fake_tensorrt_llm.models import QWenConfig
from tests.fake_tensorrt_llm.network import Network, net_guard

_SIZES = (
    "max_batch_size",
    "max_beam_width",
    "max_input_len",
    "max_seq_len",
    "max_num_tokens",
    "opt_num_tokens",
)
_SWITCHES = (
    "remove_input_padding",
    "context_fmha",
    "use_paged_context_fmha",
    "use_fp8_context_fmha",
    "use_fused_mlp",
)


def load_model_class(path: Path, name: str) -> Any:
    """Import a model file by its path, as the library does."""
    loader = SourceFileLoader("models", str(path))
    module = module_from_spec(spec_from_loader("models", loader))
    loader.exec_module(module)
    return getattr(module, name)


def build(checkpoint_dir: Path, output_dir: Path, flags: dict[str, str]) -> None:
    """Write `rank0.engine` and `config.json`."""
    file, name = Path(flags["model_cls_file"]), flags["model_cls_name"]
    load_model_class(file, name)
    pretrained = json.loads((checkpoint_dir / "config.json").read_text())
    build_config: dict[str, Any] = {size: int(flags[size]) for size in _SIZES}
    build_config["kv_cache_type"] = flags["kv_cache_type"].upper()
    build_config["plugin_config"] = {
        "dtype": pretrained["dtype"],
        "gpt_attention_plugin": flags["gpt_attention_plugin"],
        "gemm_plugin": flags["gemm_plugin"],
        **{switch: flags[switch] == "enable" for switch in _SWITCHES},
    }
    engine = {
        "file": str(file),
        "name": name,
        "pretrained": pretrained,
        "build": build_config,
        "weights": load_file(checkpoint_dir / "rank0.safetensors"),
    }
    Deserialized(engine)  # every error of the network shows at build time
    output_dir.mkdir(exist_ok=True)
    (output_dir / "rank0.engine").write_bytes(pickle.dumps(engine))
    config = {"version": VERSION, "pretrained_config": pretrained, "build_config": build_config}
    (output_dir / "config.json").write_text(json.dumps(config))


class Deserialized:
    """An engine in memory: the model with its weights and the network's inputs and outputs."""

    def __init__(self, engine: dict[str, Any]) -> None:
        import torch

        model_class = load_model_class(Path(engine["file"]), engine["name"])
        build_config = engine["build"]
        self.model = model_class(QWenConfig.from_dict(engine["pretrained"]))
        self.model.load(engine["weights"])
        self.network = Network(build_config["plugin_config"])
        sizes = {size: build_config[size] for size in _SIZES}
        with net_guard(self.network):
            self.arguments = self.model.prepare_inputs(
                **sizes,
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

    def run(self, values: dict[str, Any]) -> dict[str, Any]:
        """Compute the outputs."""
        for name, tensor in self.network.inputs.items():
            tensor.value = values[name]
        with net_guard(self.network):
            self.model(**self.arguments)
        return {name: tensor.value for name, tensor in self.network.outputs.items()}

    def _check_named_dimensions(self) -> None:
        seen: dict[str, Any] = {}
        for tensor in self.network.inputs.values():
            for name, ranges in tensor.dim_range.items():
                assert seen.setdefault(name, ranges) == ranges, name


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for flag in SIGNATURES["trtllm-build"]["flags"]:
        parser.add_argument(f"--{flag}")
    flags = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    build(Path(flags.pop("checkpoint_dir")), Path(flags.pop("output_dir")), flags)
