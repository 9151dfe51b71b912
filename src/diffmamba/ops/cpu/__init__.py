"""The compiled CPU path: C++ that is built on first use, and the operators of PyTorch that call it."""
