"""What the extras bring can be loaded side by side."""

import subprocess
import sys


def test_every_extra_imports_in_one_process():
    modules = [
        "av",
        "fsspec",
        "jinja2",
        "matplotlib",
        "nvidia.dali",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "openai",
        "PIL",
        "pyarrow.parquet",
        "pycocoevalcap.cider.cider",
        "pytriton",
        "ray",
        "rich",
        "safetensors",
        "sklearn",
        "tensorboard",
        "tensorrt_rtx",
        "tokenizers",
        "torch",
        "transformers",
        "tritonclient.grpc",
        "tritonclient.http",
        "typer",
    ]
    code = "import " + ", ".join(modules)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
