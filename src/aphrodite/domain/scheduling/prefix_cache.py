"""Finds KV blocks that hold a prompt's beginning already.

A full block is named by a hash chained over everything before it:

    hash(block i) = H(hash(block i - 1), its token ids, content hashes of the images that it touches)

so that equal hashes mean equal tokens and pictures from the first token on. Where a prompt's tokens see each other, its
first block stands behind the hash of the whole prompt: such a prompt is shared as a whole only. What a running request
is about to compute is known by its hash as well, so that another can wait for it and need not compute it too.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from aphrodite.domain.scheduling.block_pool import BlockPool
from aphrodite.domain.scheduling.request import Request


class PrefixCache:
    """Block hashes to blocks, over the content that a BlockPool keeps."""

    def __init__(self, pool: BlockPool, block_size: int) -> None:
        self._pool = pool
        self._block_size = block_size
        self._block_of: dict[bytes, int] = {}
        self._hash_of: dict[int, bytes] = {}
        self._coming: dict[bytes, Request] = {}  # blocks not yet here, and who computes them

    def extend_hashes(self, request: Request) -> None:
        """Hash the blocks that `request`'s known tokens have filled since the last call."""
        for index in range(len(request.block_hashes), request.num_tokens // self._block_size):
            start = index * self._block_size
            parent = request.block_hashes[-1] if index else self._root(request)
            request.block_hashes.append(self._hash(parent, request, start, start + self._block_size))

    def match(self, request: Request) -> list[int]:
        """The longest run of cached blocks that begins `request`, its last token left out: that one is always run."""
        found: list[int] = []
        for block_hash in request.block_hashes[: (request.num_tokens - 1) // self._block_size]:
            block_id = self._block_of.get(block_hash)
            if block_id is None:
                break
            found.append(block_id)
        return found

    def is_coming(self, request: Request, index: int) -> bool:
        """Whether another request computes block `index` of `request`, one that `match` could find."""
        return (index + 1) * self._block_size < request.num_tokens and request.block_hashes[index] in self._coming

    def announce(self, request: Request) -> None:
        """`request` starts to run: its hashed blocks that are not here yet will be."""
        for block_hash in request.block_hashes[request.num_registered_blocks :]:
            self._coming.setdefault(block_hash, request)

    def withdraw(self, request: Request) -> None:
        """`request` runs no more: what it has not computed will not come."""
        for block_hash in request.block_hashes[request.num_registered_blocks :]:
            if self._coming.get(block_hash) is request:
                del self._coming[block_hash]

    def register(self, request: Request, num_computed_tokens: int) -> None:
        """Make the blocks that lie within the first `num_computed_tokens` tokens findable; their KV is written."""
        last = num_computed_tokens // self._block_size
        if last <= request.num_registered_blocks:
            return  # as after most decode steps
        self.extend_hashes(request)
        for index in range(request.num_registered_blocks, last):
            block_hash = request.block_hashes[index]
            self._coming.pop(block_hash, None)
            if block_hash not in self._block_of:  # else an equal block was faster; this one stays unnamed
                block_id = int(request.block_ids[index])
                self._block_of[block_hash] = block_id
                self._hash_of[block_id] = block_hash
        request.num_registered_blocks = last

    def holds(self, block_id: int) -> bool:
        return block_id in self._hash_of

    def evict(self, block_ids: Iterable[int]) -> None:
        """Forget blocks whose content is about to be overwritten."""
        for block_id in block_ids:
            block_hash = self._hash_of.pop(block_id, None)
            if block_hash is not None:
                del self._block_of[block_hash]

    def clear(self) -> None:
        """Forget all blocks; their content is gone."""
        self._block_of.clear()
        self._hash_of.clear()
        self._coming.clear()

    def _root(self, request: Request) -> bytes:
        """What stands before the first block."""
        return self._hash(b"whole", request, 0, request.num_prompt_tokens) if request.is_prefix_masked else b""

    def _hash(self, parent: bytes, request: Request, start: int, stop: int) -> bytes:
        digest = hashlib.blake2b(parent, digest_size=16)
        digest.update(np.ascontiguousarray(request.tokens[start:stop], dtype="<i4").tobytes())
        for span in request.images:
            if span.start < stop and start < span.stop:
                digest.update(span.image.content_hash)
        return digest.digest()
