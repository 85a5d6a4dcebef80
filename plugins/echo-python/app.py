"""Sends each message back as it came, text or binary."""

import wit_world.exports
from wit_world.exports.handler import Acceptance, Closing, Event, Handshake
from wit_world.imports.types import Message


class Handler(wit_world.exports.Handler):
    def on_connect(self, event: Event, request: Handshake) -> Acceptance:
        return Acceptance(subprotocol=None, headers=[])

    def on_message(self, event: Event, message: Message) -> Message | None:
        return message

    def on_disconnect(self, event: Event, closing: Closing) -> None:
        pass
