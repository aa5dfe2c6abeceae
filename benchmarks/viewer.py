"""Stands in for an open dashboard: watches every session, and reads everything it is sent."""

import asyncio
import json
import os

from websockets.asyncio.client import connect


async def main() -> None:
    url = f"ws://127.0.0.1:{os.environ['VIEWER_PORT']}/ws/dashboard"
    headers = {"Authorization": f"Bearer {os.environ['VIEWER_TOKEN']}"}
    watched = set()
    async with connect(url, additional_headers=headers, max_size=None, proxy=None) as socket:
        async for message in socket:
            frame = json.loads(message)
            if frame["frame"] == "dashboard-welcome":
                print("watching", flush=True)
            elif frame["frame"] == "session-changed" and frame["session"]["id"] not in watched:
                session = frame["session"]["id"]
                watched.add(session)
                subscribe = {"frame": "subscribe", "session": session, "after": 0}
                await socket.send(json.dumps(subscribe))


asyncio.run(main())
