import asyncio

import pytest
from otf_serve.catalog import Catalog
from otf_serve.hub import Hub
from otf_serve.watch import watch


@pytest.mark.parametrize("turns", range(6))
@pytest.mark.parametrize("pause", [0.0, 0.1])
def test_it_ends_when_it_is_cancelled_whatever_changes_at_that_moment(
    home, monkeypatch, pause, turns
):
    # A server that is ended closes its sockets, which is a change, and then cancels the watch.
    monkeypatch.setattr("otf_serve.watch._IDLE_SECONDS", 60.0)
    monkeypatch.setattr("otf_serve.watch._BUSY_SECONDS", 0.01)

    async def main():
        hub = Hub()
        watching = asyncio.ensure_future(watch(hub, Catalog(home)))
        await asyncio.sleep(pause)
        hub.changed.set()
        for _ in range(turns):
            await asyncio.sleep(0)
        watching.cancel()
        done, _ = await asyncio.wait({watching}, timeout=1)
        watching.cancel()
        assert done == {watching}
        assert watching.cancelled()

    asyncio.run(main())
