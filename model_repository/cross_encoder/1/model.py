"""Version 1 of the cross-encoder; the code that all versions share lies one folder up."""

from triton_model import TritonPythonModel as TritonPythonModel
