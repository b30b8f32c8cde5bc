"""Look for code in a file, as each of the things that it may be."""

import re

from llmnotes.formats.files import Source
from llmnotes.formats.scanning import arrays, code, containers, packed, tars
from llmnotes.formats.scanning.state import Search

# A tensor's bytes in an archive of PyTorch's may begin with anything, and no loader takes them for instructions.
STORAGE = re.compile(r"/(data|constants)/\d+$")


def look(search: Search, source: Source, where: str, depth: int = 0) -> None:
    """Look for code in a file, as each of the things that it may be: a zip can be a pickle as well."""
    head = source.head(512)
    raw = search.torch and bool(STORAGE.search(where))
    end = source.read(max(source.size - 65_557, 0), min(source.size, 65_557))  # where a zip's directory is found
    if head[:2] == b"PK" or b"PK\5\6" in end:
        containers.look_into_zip(search, source, where, depth)
        code.look_at_archive(search, source, where)
    if tars.is_tar(head):
        tars.look_into_tar(search, source, where, depth)
    if (how := packed.packing(head, where)) and not raw:
        packed.look_into_packed(search, source, where, how, depth)
    elif head[:4] != b"PK\3\4":
        arrays.look_into_arrays(search, source, where, raw=raw)
    if not raw:
        code.look_for_code(search, source, where)
