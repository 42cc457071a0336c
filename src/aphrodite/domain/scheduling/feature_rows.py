"""Which rows of the device's feature array a request's next tokens read, and how far a row may go for its images."""

import numpy as np

from aphrodite.domain.scheduling.encoder_cache import EncoderCache
from aphrodite.domain.scheduling.request import Request
from aphrodite.domain.scheduling.step_builder import StepBuilder


class FeatureRows:
    """Hands the images of running requests to the steps that show them, over one EncoderCache."""

    def __init__(self, encoder_cache: EncoderCache) -> None:
        self._cache = encoder_cache

    def cut(self, request: Request, num_tokens: int, most: int) -> int:
        """How many of a request's next tokens to run, about `num_tokens`, and `most` at most.

        Tokens that see each other are run whole: to their end where there is room, else not at all. A row stops in
        front of an image while the features in use leave no room for its own.
        """
        self.let_go(request)
        start = request.num_computed
        split = _split(request, start + num_tokens) if num_tokens else None
        if split is not None:
            num_tokens = max(0, (split.stop if split.stop - start <= most else split.start) - start)
        num_tokens = self._stop_before_image(request, num_tokens)
        split = _split(request, start + num_tokens)
        return num_tokens if split is None else max(0, split.start - start)

    def let_go(self, request: Request) -> None:
        """Images of which all tokens were run in earlier steps are needed no more."""
        for index, span in enumerate(request.images[request.num_images_done :], request.num_images_done):
            if span.stop > request.num_computed:
                break
            self._cache.release(span.image.content_hash, (request.request_id, index))
            request.num_images_done = index + 1

    def release(self, request: Request) -> None:
        """`request` runs no more."""
        for index, span in enumerate(request.images):
            self._cache.release(span.image.content_hash, (request.request_id, index))

    def of_next(self, request: Request, num_tokens: int, step: StepBuilder) -> np.ndarray | None:
        """For the next tokens [num_tokens] of a request the row of their feature, -1 where none; None: none has one.

        Images that are not in the cache are encoded in this step.
        """
        start, stop = request.num_computed, request.num_computed + num_tokens
        rows: np.ndarray | None = None
        for index, span in enumerate(request.images[request.num_images_done :], request.num_images_done):
            if span.start >= stop:
                break
            image = span.image
            if image.content_hash not in self._cache:
                self._cache.add(image.content_hash, image.plan.num_features)
                step.encode(image, self._cache.rows(image.content_hash))
            self._cache.use(image.content_hash, (request.request_id, index))
            if rows is None:
                rows = np.full(num_tokens, -1, np.int32)
            of_image = np.full(span.num_tokens, -1, np.int32)
            of_image[span.is_feature] = self._cache.rows(image.content_hash)
            first, last = max(start, span.start), min(stop, span.stop)
            rows[first - start : last - start] = of_image[first - span.start : last - span.start]
        return rows

    def _stop_before_image(self, request: Request, num_tokens: int) -> int:
        start, claimed = request.num_computed, 0
        for span in request.images[request.num_images_done :]:
            if span.start >= start + num_tokens:
                break
            claimed += self._cache.num_to_claim(span.image.content_hash, span.image.plan.num_features)
            if not self._cache.can_hold(claimed):
                return max(0, span.start - start)
        return num_tokens


def _split(request: Request, stop: int) -> range | None:
    """The tokens that see each other and would be split in front of `stop`."""
    return next((whole for whole in request.whole_ranges if whole.start < stop < whole.stop), None)
