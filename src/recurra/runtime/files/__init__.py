"""Reading model files: `.keras` archives and older `.h5` files, of Keras 2 and 3."""

from recurra.runtime.files.limits import LIMITS, Limits
from recurra.runtime.files.names import container_names
from recurra.runtime.files.reader import read
from recurra.runtime.files.saved import Request, SavedModel

__all__ = ["LIMITS", "Limits", "Request", "SavedModel", "container_names", "read"]
