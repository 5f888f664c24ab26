"""An HDF5 file as groups of groups and datasets."""

from __future__ import annotations

import numpy as np

from recurra.runtime.files.hdf5.attributes import Heaps, Value, read_attributes
from recurra.runtime.files.hdf5.blocks import NOWHERE, SIGNATURE, Blocks, Message
from recurra.runtime.files.hdf5.storage import Dataset, describe, is_dataset, read_values
from recurra.runtime.files.limits import LIMITS, Limits
from recurra.runtime.files.source import Source

LINK_INFO, LINK, TABLE = 0x02, 0x06, 0x11
MAX_NAME = 4096  # else looking for the ends of names could take for ever
SOFT = 2  # in a table's entry: a link by name


class File:
    """An HDF5 file.

    Args:
        source: its bytes.
        limits: how much to read at most.

    Attributes:
        root: the group that everything is in.

    Raises:
        ModelFileError: if it is damaged, cut off, or beyond the limits; also by every method.
    """

    def __init__(self, source: Source, limits: Limits = LIMITS) -> None:
        self.blocks = Blocks(source, limits)
        self.heaps = Heaps(self.blocks)
        self.seen: set[int] = set()
        self.root = Group(self, "", self._root_address())

    def values(self, dataset: Dataset) -> np.ndarray:
        """What a dataset holds: a read-only array, floats as float32."""
        return read_values(self.blocks, dataset)

    def enter(self, name: str, address: int) -> None:
        """Note that an object has been found, once: files that go in circles are refused."""
        if address in self.seen:
            raise self.blocks.fail(f"'{name}' is the same object as another: it goes in circles")
        self.seen.add(address)

    def _root_address(self) -> int:
        blocks = self.blocks
        head = blocks.source.read(0, min(blocks.source.size, 96))
        if head[:8] != SIGNATURE:
            raise blocks.fail("it is not an HDF5 file: it does not begin like one")
        version = head[8] if len(head) > 8 else -1
        if version in (0, 1):
            sizes = blocks.unpack("<BB", head, 13)
            base, _, end = blocks.unpack("<QQQ", head, 24 + 4 * version)
            (root,) = blocks.unpack("<Q", head, 64 + 4 * version)
        elif version in (2, 3):
            sizes = blocks.unpack("<BB", head, 9)
            base, _, end, root = blocks.unpack("<QQQQ", head, 12)
        else:
            raise blocks.fail(f"HDF5 of version {version} is not known")
        if sizes != (8, 8) or base:
            raise blocks.unusual("it counts in addresses of another size or start")
        if end > blocks.source.size:
            raise blocks.fail(
                f"it says that it has {end} bytes, and has {blocks.source.size}: "
                "it was written or copied in part"
            )
        return root


class Group:
    """A group: names of groups and datasets, and attributes.

    Args:
        file: what it is in.
        name: its path, for messages.
        address: of the object.
    """

    def __init__(self, file: File, name: str, address: int) -> None:
        self.file, self.name = file, name
        file.enter(name or "/", address)
        self.messages = file.blocks.messages(address)
        self._links: dict[str, int] | None = None
        self._children: dict[str, Group | Dataset] = {}

    def attributes(self, *names: str) -> dict[str, Value]:
        """Attributes whose names begin with one of these."""
        return read_attributes(self.file.blocks, self.file.heaps, self.messages, names)

    def names(self) -> list[str]:
        """What it holds."""
        return list(self._addresses())

    def child(self, name: str) -> Group | Dataset | None:
        """The group or dataset of this name, or None."""
        if name not in self._children:
            address = self._addresses().get(name)
            if address is None:
                return None
            self._children[name] = self._open(f"{self.name}/{name}".lstrip("/"), address)
        return self._children[name]

    def group(self, path: str) -> Group | None:
        """The group at this path below, or None where there is none."""
        found: Group | Dataset | None = self
        for name in path.split("/"):
            found = found.child(name) if isinstance(found, Group) else None
        return found if isinstance(found, Group) else None

    def dataset(self, path: str) -> Dataset | None:
        """The dataset at this path below, or None where there is none."""
        above, _, name = path.rpartition("/")
        group = self.group(above) if above else self
        found = group.child(name) if group else None
        return found if isinstance(found, Dataset) else None

    def _open(self, name: str, address: int) -> Group | Dataset:
        blocks = self.file.blocks
        if name.count("/") >= blocks.limits.max_depth:
            raise blocks.fail(f"groups lie more than {blocks.limits.max_depth} deep")
        messages = blocks.messages(address)
        if is_dataset(messages):
            self.file.enter(name, address)
            return describe(blocks, name, messages)
        return Group(self.file, name, address)

    def _addresses(self) -> dict[str, int]:
        if self._links is None:
            links: dict[str, int] = {}
            for message in self.messages:
                if message.kind == TABLE:
                    _read_table(self, message.data, links)
                elif message.kind == LINK:
                    _read_link(self, message, links)
                elif message.kind == LINK_INFO and _is_elsewhere(self, message.data):
                    raise self.file.blocks.unusual(f"it keeps the links of '{self.name}' apart")
            self._links = links
        return self._links


def _add(group: Group, links: dict[str, int], name: bytes, address: int) -> None:
    blocks = group.file.blocks
    blocks.count()
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise blocks.fail(f"a name in '{group.name}' is not UTF-8: it is damaged") from None
    if not text or "/" in text or text in links:
        raise blocks.fail(f"'{group.name}' has the name '{text}' twice or cannot have it")
    links[text] = address


def _elsewhere(group: Group, name: str) -> Exception:
    return group.file.blocks.fail(
        f"'{group.name}/{name}' is a link to another place or file, which is not followed"
    )


def _is_elsewhere(group: Group, data: bytes) -> bool:
    _, flags = group.file.blocks.unpack("<BB", data)
    (address,) = group.file.blocks.unpack("<Q", data, 10 if flags & 1 else 2)
    return address != NOWHERE


def _read_link(group: Group, message: Message, links: dict[str, int]) -> None:
    """A link of the newer form, as a message of its group."""
    unpack, data = group.file.blocks.unpack, message.data
    version, flags = unpack("<BB", data)
    if version != 1:
        raise group.file.blocks.fail(f"a link of version {version} cannot be: it is damaged")
    at, kind = 2, 0
    if flags & 8:
        (kind,) = unpack("<B", data, at)
        at += 1
    at += 8 if flags & 4 else 0
    at += 1 if flags & 16 else 0
    width = 1 << (flags & 3)
    unpack(f"<{width}B", data, at)
    length = int.from_bytes(data[at : at + width], "little")
    at += width
    name = data[at : at + length]
    if len(name) != length:
        raise group.file.blocks.fail("a link's name is cut off: it is damaged")
    if kind != 0:
        raise _elsewhere(group, name.decode("utf-8", "replace"))
    (address,) = unpack("<Q", data, at + length)
    _add(group, links, name, address)


def _read_table(group: Group, data: bytes, links: dict[str, int]) -> None:
    """Links of the older form: a tree of lists, and a heap of names."""
    blocks = group.file.blocks
    root, heap = blocks.unpack("<QQ", data)
    head = blocks.signed(heap, b"HEAP", 32, "heap of names")
    size, _, place = blocks.unpack("<QQQ", head, 8)
    names = blocks.read(place, size)
    waiting, seen = [root], {root}
    while waiting:
        address = waiting.pop()
        head = blocks.signed(address, b"TREE", 24, "tree of links")
        kind, level, used = blocks.unpack("<BBH", head, 4)
        if kind != 0:
            raise blocks.fail(f"the tree of '{group.name}' is another's: it is damaged")
        nodes = blocks.unpack(f"<{2 * used + 1}Q", blocks.read(address + 24, 16 * used + 8))[1::2]
        for node in reversed(nodes):
            if node in seen:
                raise blocks.fail(f"the tree of '{group.name}' goes in circles")
            seen.add(node)
        if level:
            waiting.extend(reversed(nodes))
            continue
        for node in nodes:
            _read_entries(group, node, names, links)


def _read_entries(group: Group, node: int, names: bytes, links: dict[str, int]) -> None:
    blocks = group.file.blocks
    head = blocks.signed(node, b"SNOD", 8, "list of links")
    (number,) = blocks.unpack("<H", head, 6)
    entries = blocks.read(node + 8, 40 * number)
    for at in range(0, len(entries), 40):
        start, address, kind = blocks.unpack("<QQI", entries, at)
        end = names.find(b"\0", start, start + MAX_NAME) if start < len(names) else -1
        if end < 0:
            raise blocks.fail(f"a name in '{group.name}' is not there: it is damaged")
        name = names[start:end]
        if kind == SOFT:
            raise _elsewhere(group, name.decode("utf-8", "replace"))
        _add(group, links, name, address)
