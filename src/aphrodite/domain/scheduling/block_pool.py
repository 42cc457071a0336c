"""The KV cache's blocks: who holds which, and which may be taken."""

from collections import OrderedDict
from collections.abc import Iterable


class BlockPool:
    """Counts the holders of every block.

    A block without a holder is free, but keeps its content until it is allocated again, so that the prefix cache can
    share it anew. Free blocks are taken in the order of `_free`: those of no further use first, then those whose
    content is the longest unused.

    Block 0 is never given out: the padding of a step writes there.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self._num_holders = [0] * num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, num_blocks))

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_blocks - 1 - len(self._free)

    def is_free(self, block_id: int) -> bool:
        return block_id in self._free

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks, whose old content is lost. The caller has looked at `num_free`."""
        taken = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block_id in taken:
            self._num_holders[block_id] = 1
        return taken

    def share(self, block_id: int) -> None:
        """One more holder of a block's content; revives a free block."""
        self._free.pop(block_id, None)
        self._num_holders[block_id] += 1

    def free(self, block_ids: Iterable[int], keep_content: bool) -> None:
        """One holder less of each; give the last block of a sequence first, so that it is also taken first.

        Without `keep_content` the blocks are of no further use, and stand first in line.
        """
        for block_id in block_ids:
            self._num_holders[block_id] -= 1
            if self._num_holders[block_id] == 0:
                self._free[block_id] = None
                if not keep_content:
                    self._free.move_to_end(block_id, last=False)
