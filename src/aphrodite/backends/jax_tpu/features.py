"""Which rows of the feature buffer hold which picture."""

import numpy as np

from aphrodite.domain.errors import StepError
from aphrodite.domain.scheduling.step import StepPlan


class FeatureSlots:
    """Books the places of pictures by content hash; one more place than pictures, for the padding."""

    def __init__(self, num_slots: int, num_image_tokens: int) -> None:
        self.num_slots = num_slots
        self.num_image_tokens = num_image_tokens
        self._slot_of: dict[bytes, int] = {}
        self._free = list(range(num_slots - 1, -1, -1))

    @property
    def padding_slot(self) -> int:
        return self.num_slots

    def forget(self, content_hash: bytes) -> None:
        slot = self._slot_of.pop(content_hash, None)
        if slot is not None:
            self._free.append(slot)

    def take(self, content_hash: bytes) -> int:
        """The place of a picture that is about to be encoded."""
        if content_hash not in self._slot_of:
            self._slot_of[content_hash] = self._free.pop()
        return self._slot_of[content_hash]

    def clear(self) -> None:
        for content_hash in list(self._slot_of):
            self.forget(content_hash)

    def rows(self, plan: StepPlan, row_starts: np.ndarray, num_tokens: int) -> np.ndarray:
        """For each token [T], padding included, the feature that stands in its embedding's place; -1: none.

        Raises StepError when a picture's features are not there.
        """
        rows = np.full(num_tokens, -1, dtype=np.int32)
        for row, first in zip(plan.rows, row_starts.tolist(), strict=False):
            span = row.features
            if span is None:
                continue
            if span.content_hash not in self._slot_of:
                raise StepError("The features of an image are not there; the step that should have made them failed.")
            start = self._slot_of[span.content_hash] * self.num_image_tokens + span.feature_offset
            first += span.token_offset
            rows[first : first + span.length] = np.arange(start, start + span.length)
        return rows
