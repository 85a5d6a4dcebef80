"""The PyPI package `aioquic` as a member of the chat by WebTransport: URL names the stage. It speaks after the others have."""

import asyncio
import json

from aioquic_session import connected, opened, url


async def chat():
    async with connected() as http3:
        session = await opened(http3, url.path + "?name=eve")
        session.send(json.dumps({"action": "join", "room": "lobby"}))
        awaited = {"by WebTransport", "by WebSocket"}
        while awaited:
            event = json.loads(await session.receive())
            if event["event"] == "said":
                awaited.discard(event["text"])
        session.send(json.dumps({"action": "say", "room": "lobby", "text": "by aioquic"}))
        while event.get("text") != "by aioquic":
            event = json.loads(await session.receive())
        session.close(1000, "")
        await session.closed()
    print("ok chat")


asyncio.run(asyncio.wait_for(chat(), 180))
