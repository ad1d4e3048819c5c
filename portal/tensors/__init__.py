"""What a weights file holds: names, shapes and dtypes of its tensors, from its header alone."""

from portal.tensors.safetensors import MAX_HEADER, Header, ReadRange, Tensor, read_header
from portal.tensors.shards import ShardIndex, read_index

__all__ = ["MAX_HEADER", "Header", "ReadRange", "ShardIndex", "Tensor", "read_header", "read_index"]
