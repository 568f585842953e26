"""Why Grounded-VideoLLM has no engines for a GPU: docs/tensorrt_llm.md has the sources."""

REFUSED = (
    "its head has a bias, which TensorRT-LLM's own Llama and Phi-3 do not have "
    "(docs/tensorrt_llm.md); on a GPU it runs in the profile torch with the device cuda"
)
