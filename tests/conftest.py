"""Settings that must stand before Keras or JAX is imported."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
# The tests say what the CPU engine does, on machines with an accelerator too.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# A picture is written to a file, never to a window.
os.environ.setdefault("MPLBACKEND", "agg")
