"""How long after it is recorded a point is with a dashboard.

Claim: within 250 ms at the median.
"""

import asyncio
import contextlib
import io
import json
import statistics
import threading
import time

from common import own_home, server
from otf_hooks.assembly import Address, open_engine
from otf_session.events import RunState
from otf_session.home import Home
from websockets.asyncio.client import connect

POINTS = 200


async def watch(port: int, token: str, session: str, arrived: dict, ready: threading.Event) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"ws://127.0.0.1:{port}/ws/dashboard"
    async with connect(url, additional_headers=headers, proxy=None) as socket:
        await socket.send(json.dumps({"frame": "subscribe", "session": session, "after": 0}))
        ready.set()
        async for message in socket:
            now = time.time()
            frame = json.loads(message)
            for event in frame.get("events", []):
                if event["kind"] == "metrics":
                    arrived.update(dict.fromkeys(event["steps"], now))
            if len(arrived) == POINTS:
                return


def main() -> None:
    with own_home(), server() as serving, contextlib.redirect_stderr(io.StringIO()):
        engine = open_engine(
            project="b",
            home=Home.find(),
            folder=None,
            address=Address(host="127.0.0.1", port=serving.port, connect=True),
        )
        engine.start()
        engine.start_run("baseline")
        engine.running()
        arrived, recorded, ready = {}, {}, threading.Event()
        watching = threading.Thread(
            target=lambda: asyncio.run(
                watch(serving.port, serving.token, engine.store.id, arrived, ready)
            )
        )
        watching.start()
        ready.wait()
        time.sleep(0.5)
        for step in range(1, POINTS + 1):
            engine.step = step
            recorded[step] = time.time()
            engine.record({"loss": 1.0})
            # Not a multiple of the writer's interval, so that every phase of it is met.
            time.sleep(0.037)
        watching.join()
        engine.close(RunState.FINISHED)
    delays = sorted((arrived[step] - recorded[step]) * 1e3 for step in recorded)
    print(
        f"from record to dashboard, ms: median {statistics.median(delays):.0f}, "
        f"95 percent under {delays[int(0.95 * len(delays))]:.0f}, most {delays[-1]:.0f} "
        "(claim: 250 at the median)"
    )


if __name__ == "__main__":
    main()
