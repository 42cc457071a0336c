"""What crosses between a process and another that may be lost: frames of a length in four bytes and a message."""

import socket

LENGTH_BYTES = 4


def encode_frame(message: bytes) -> bytes:
    return len(message).to_bytes(LENGTH_BYTES, "big") + message


def receive(channel: socket.socket) -> bytes | None:
    """The next frame; None when the other end is closed."""
    length = _receive_exactly(channel, LENGTH_BYTES)
    return None if length is None else _receive_exactly(channel, int.from_bytes(length, "big"))


def _receive_exactly(channel: socket.socket, num_bytes: int) -> bytes | None:
    buffer = bytearray(num_bytes)
    view = memoryview(buffer)
    while view:
        num_received = channel.recv_into(view)
        if num_received == 0:
            return None
        view = view[num_received:]
    return bytes(buffer)
