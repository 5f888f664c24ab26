"""HDF5 as Keras writes it, read without HDF5's library.

That library is C code which trusts a file's own numbers, and damaged files have crashed it over
and over; what is here checks every number and has nothing to crash. It also starts faster. Files
that use more of HDF5 than Keras mostly does are rewritten by a child process, see `repack`.
"""

from recurra.runtime.files.hdf5.blocks import SIGNATURE, Unusual
from recurra.runtime.files.hdf5.file import File, Group
from recurra.runtime.files.hdf5.storage import Dataset

__all__ = ["SIGNATURE", "Dataset", "File", "Group", "Unusual"]
