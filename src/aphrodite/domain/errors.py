"""The error tree. Every mistake a user can make has a type here and one clear sentence.

    AphroditeError
    ├── RequestError (ValueError)        what one request asks is wrong; the others go on
    │   ├── PromptError                    the prompt or its messages
    │   │   ├── ImageError                   the picture itself
    │   │   │   ├── NotAnImageError            bytes of no image format that is read
    │   │   │   ├── ImageTooLargeError         more bytes or pixels than allowed
    │   │   │   ├── ImageTooCostlyError        more time, memory or parts to decode than allowed
    │   │   │   └── ImageFetchError            not to be had from its URL
    │   │   │       ├── ImageUrlError            the URL is malformed or of an unknown kind
    │   │   │       ├── ImageForbiddenError      its host, its file or where it leads is not allowed
    │   │   │       ├── ImageUnreachableError    no connection, or one that broke off; no such file
    │   │   │       ├── ImageTimeoutError        not there in time
    │   │   │       └── ImageStatusError         the host answered with an error, such as 404
    │   │   ├── PlaceholderError             pictures and placeholders do not match
    │   │   └── ProcessorSettingsError       mm_processor_kwargs that the model's image processor does not take
    │   ├── PromptTooLongError             longer than the context
    │   └── SamplingParamsError            a sampling parameter out of its range
    │       └── FormError                    a schema, an expression or a grammar that cannot be followed
    ├── ConfigError (ValueError)         an engine option is wrong
    ├── ModelError                       the model cannot be used
    │   ├── ModelNotFoundError             no such folder, file or repository
    │   ├── UnsupportedModelError          an architecture that we do not run
    │   └── CheckpointError                damaged, incomplete or mismatched weights
    ├── BackendError                     the hardware cannot be used
    │   ├── BackendNotFoundError           no backend of that name is installed
    │   ├── CapacityError                  not enough memory for what was asked
    │   ├── StepError                      a step failed; its requests end with this
    │   │   └── CacheLostError               and took KV cache and image features with it; the others are run again
    │   └── EngineDeadError                the engine's process ended; its requests end with this
    ├── GenerationError                  some requests of one call failed; the others' outputs are in it
    ├── UnreadAnswerError                nobody reads what a request has made; it was ended
    ├── QueueFullError                   too many requests wait already; ask again later
    ├── EngineClosedError                the engine was closed
    ├── WorkerError                      no process that decodes pictures can be started
    └── ServerTalkError                  a server that we are a client of cannot be reached, or answers with an error

Foreign exceptions are translated once, where an adapter meets them, and kept as `__cause__`.
"""

from collections.abc import Sequence
from typing import Any


class AphroditeError(Exception):
    """Base of every error that Aphrodite raises on purpose; `str()` is one sentence for the user."""


class RequestError(AphroditeError, ValueError):
    """What one request asks for is wrong; nothing of it was scheduled."""


class PromptError(RequestError):
    """A prompt, or a chat message, has a wrong form."""


class ImageError(PromptError):
    """A picture is broken, empty or of an unknown kind."""


class NotAnImageError(ImageError):
    """The bytes are no image of a format that Aphrodite reads."""


class ImageTooLargeError(ImageError):
    """A picture has more bytes or pixels than allowed; the sentence says how many are."""


class ImageTooCostlyError(ImageError):
    """A picture takes more time or memory to decode, or has more parts, than allowed."""


class ImageFetchError(ImageError):
    """A picture cannot be had from its URL."""


class ImageUrlError(ImageFetchError):
    """An image URL is malformed, or of a kind that is not fetched."""


class ImageForbiddenError(ImageFetchError):
    """An image URL leads where this server does not go; the sentence names the option that would allow it, if any."""


class ImageUnreachableError(ImageFetchError):
    """The host of an image cannot be found or reached, its answer broke off, or its file cannot be read."""


class ImageTimeoutError(ImageFetchError):
    """A picture did not arrive in time; the sentence says the seconds and the variable that sets them."""


class ImageStatusError(ImageFetchError):
    """The host of an image answered with an HTTP status other than 200."""


class PlaceholderError(PromptError):
    """The pictures of a prompt and the placeholders in its text do not match."""


class ProcessorSettingsError(PromptError):
    """The mm_processor_kwargs of a prompt are not for the model's image processor."""


class ToolError(PromptError):
    """The tools that a request offers are wrong."""


class ToolChoiceError(PromptError):
    """None of the tools that a request offers can be called as it asks."""


class PromptTooLongError(RequestError):
    """A prompt, its image expanded, does not fit into the context."""


class SamplingParamsError(RequestError):
    """A sampling parameter is out of its range; the sentence names the field and the range."""


class FormError(SamplingParamsError):
    """The form that an answer must have cannot be compiled, or not be followed; the sentence says where."""


class ConfigError(AphroditeError, ValueError):
    """An engine option is wrong; the sentence names the option."""


class ModelError(AphroditeError):
    """The model cannot be used."""


class ModelNotFoundError(ModelError):
    """No folder, file or repository of that name holds a model."""


class UnsupportedModelError(ModelError):
    """An architecture, or a variant of one, that Aphrodite does not run."""


class CheckpointError(ModelError):
    """The weights are damaged, incomplete or do not match the configuration."""


class BackendError(AphroditeError):
    """The hardware, or the library that drives it, cannot do what was asked."""


class BackendNotFoundError(BackendError):
    """No compute backend of that name is installed."""


class CapacityError(BackendError):
    """Not enough memory for what was asked; the sentence says how much there is."""


class StepError(BackendError):
    """A step failed on the device; the requests in it end with this error, the engine goes on."""


class CacheLostError(StepError):
    """A step failed and left neither KV cache nor image features; what other requests had there is computed anew."""


class DeviceLostError(BackendError):
    """The device does nothing more for this process; a new process may find it well."""


class EngineDeadError(BackendError):
    """The engine's process ended, or is being started again; the sentence says why and what happens next."""


class UnreadAnswerError(AphroditeError):
    """An answer was ended because it was made faster than it was read, by far."""


class QueueFullError(AphroditeError):
    """As many requests wait as may; the same one will be taken later."""


class GenerationError(AphroditeError):
    """Some requests of one call failed on the device; the first one's error is the cause.

    `outputs` holds the results in input order, None in the place of those that failed.
    """

    def __init__(self, message: str, outputs: Sequence[Any]) -> None:
        super().__init__(message)
        self.outputs = outputs


class EngineClosedError(AphroditeError):
    """The engine was closed and takes no more requests."""


class WorkerError(AphroditeError):
    """No process that decodes images or checks forms can be started; the server's log says why."""


class ServerTalkError(AphroditeError):
    """The server cannot be reached, or answers with an error; raised by `aphrodite chat` and `aphrodite bench`."""
