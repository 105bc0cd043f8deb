"""How many bytes a piece of code holds at once; on the meta device too, so that full size costs nothing."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Counted(TorchDispatchMode):
    """Bytes of the tensors made inside the block that are alive, and the most there were."""

    def __init__(self, *networks: torch.nn.Module) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.kept = [t.untyped_storage() for net in networks for t in net.state_dict().values()]
        self.known = weakref.WeakSet(self.kept)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.known:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self.known.add(storage)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.live -= size
