"""The model `front_stream`: see `front`."""

from python_backend.triton.front import TritonPythonModel as TritonPythonModel
