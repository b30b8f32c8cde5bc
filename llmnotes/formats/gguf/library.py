"""gguf-py's writer, extended by two kinds of arrays that it cannot write. Importing this imports gguf and NumPy."""

import io
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFEndian, GGUFValueType, GGUFWriter
from gguf.gguf_writer import WriterState

from llmnotes.formats.gguf.types import KINDS, NUMBERS, Typed
from llmnotes.formats.results import PlannedTensor


class HeaderWriter(GGUFWriter):
    """Writes everything of a GGUF that stands before the tensors' bytes.

    gguf-py refuses an empty array, and guesses the kind of the numbers in an array of arrays from their values. Files
    from other tools have both, and requantizing keeps all keys, so arrays come as `Typed`, with their kind.
    """

    def __init__(self, byteorder: str, alignment: int):
        super().__init__(None, "", endianess=GGUFEndian.LITTLE if byteorder == "little" else GGUFEndian.BIG)
        self.kv_data = [{}]  # without the architecture, which gguf-py puts first; some files have none
        self.data_alignment = alignment

    def add(self, key: str, kind: str, value: Any) -> None:
        """Add one key; `kind` is a name of `types.KINDS`, or "[U32]" for an array of them."""
        self.add_key_value(key, Typed(kind, value) if kind.startswith("[") else value, value_type(kind))

    def add_planned(self, tensor: PlannedTensor) -> None:
        """Add one tensor to the table."""
        # The type of NumPy only says that `shape` counts elements and not bytes.
        kind = GGMLQuantizationType(NUMBERS[tensor.dtype])
        self.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, kind)

    def header(self) -> bytes:
        """Return the header, the keys and the table of tensors, padded to the alignment."""
        file = io.BytesIO()
        self.fout, self.state = [file], WriterState.EMPTY  # type: ignore[assignment]
        self.write_header_to_file()
        self.write_kv_data_to_file()
        self.write_ti_data_to_file()
        self.write_padding(file, file.tell())
        return file.getvalue()

    def _pack_val(
        self, val: Any, vtype: GGUFValueType, add_vtype: bool, sub_type: GGUFValueType | None = None
    ) -> bytes:
        if not isinstance(val, Typed):
            return super()._pack_val(val, vtype, add_vtype, sub_type)
        inner = val.kind[1:-1]
        head = self._pack("I", vtype) if add_vtype else b""
        head += self._pack("I", value_type(inner)) + self._pack("Q", len(val.value))
        items = (Typed(inner, item) if inner.startswith("[") else item for item in val.value)
        return head + b"".join(self._pack_val(item, value_type(inner), False) for item in items)


def value_type(kind: str) -> GGUFValueType:
    """Return gguf-py's name for a kind of value.

    >>> value_type("U32").name, value_type("[U32]").name
    ('UINT32', 'ARRAY')
    """
    return GGUFValueType(KINDS["ARRAY" if kind.startswith("[") else kind][0])
