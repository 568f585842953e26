"""Tokenizers of the Llama kind, and files of the tokenizers library."""
