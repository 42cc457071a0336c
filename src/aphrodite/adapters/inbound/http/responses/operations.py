"""The operations of the Responses API."""

from aphrodite.adapters.inbound.http.operation import Operation
from aphrodite.adapters.inbound.http.responses import protocol, stored
from aphrodite.adapters.inbound.http.responses.create import create_response

_ONE = "/v1/responses/{response_id}"

OPERATIONS = (
    Operation(
        "post",
        "/v1/responses",
        create_response,
        "Answer an input, behind what was said before it",
        protocol.ModelResponse,
        protocol.ResponsesRequest,
        protocol.ResponseEvent,
    ),
    Operation("get", _ONE, stored.get_response, "A response as it is now", protocol.ModelResponse),
    Operation("delete", _ONE, stored.delete_response, "Forget a response", protocol.DeletedResponse),
    Operation("post", f"{_ONE}/cancel", stored.cancel_response, "End a response", protocol.ModelResponse),
    Operation("get", f"{_ONE}/input_items", stored.input_items, "What a response answered", protocol.InputItems),
)
