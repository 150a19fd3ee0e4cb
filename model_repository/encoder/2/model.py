from triton_model import TritonPythonModel  # noqa: F401  the code that all versions share lies above
