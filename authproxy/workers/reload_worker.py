"""A worker's side of a reload: it prepares, and changes only when it is told."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

from authproxy import logs
from authproxy.app.application import App, Change
from authproxy.app.listeners import Listeners
from authproxy.app.tls import tls_contexts
from authproxy.workers.broker_client import BrokerClient
from authproxy.workers.channel import Message
from authproxy.workers.reload import trouble_of, unpacked, with_addresses


class Member:
    """A worker's side; `number` is that of the reload with whose outcome it began."""

    def __init__(self, app: App, client: BrokerClient, number: int) -> None:
        self._app = app
        self._client = client
        self._number = number
        self._change: tuple[int, Change] | None = None
        self._task: asyncio.Task[None] | None = None
        self._work: dict[str, Callable[[Message], Awaitable[None]]] = {
            "prepare": self._prepare,
            "commit": self._commit,
            "abandon": self._abandon,
        }
        client.tell({"reload": "here", "number": number})
        client.reloads(self._hear)

    def _hear(self, message: Message) -> None:
        before = self._task

        async def in_turn() -> None:
            if before is not None:
                await asyncio.wait([before])
            await self._work[message["reload"]](message)

        self._task = asyncio.create_task(in_turn(), name=f"reload: {message['reload']}")

    async def _prepare(self, message: Message) -> None:
        self._drop()
        number, opened = message["number"], Listeners(with_addresses(message))
        trouble = None
        try:
            config, own, authority = unpacked(message["config"])
            tls = await asyncio.to_thread(tls_contexts, config, self._app.site.tls, authority)
            self._change = number, await self._app.prepare(config, opened, tls, own)
        except Exception as error:  # noqa: BLE001 - the broker waits for an answer
            for sock in opened.sockets:
                sock.close()
            trouble = trouble_of(error)
        self._client.tell({"reload": "prepared", "number": number, "trouble": trouble})

    async def _commit(self, message: Message) -> None:
        """Serve by what was prepared for this number; if we have begun with it, go on."""
        number = message["number"]
        if self._change is not None and self._change[0] == number:
            change, self._change = self._change[1], None
            await self._serve(change, number)
        self._drop()
        if self._number == number:
            self._client.tell({"reload": "committed", "number": number})
        elif not self._app.draining:  # who comes after us begins with it
            logs.info("a worker ends, to begin again with the new configuration")
            os.kill(os.getpid(), signal.SIGTERM)

    async def _serve(self, change: Change, number: int) -> None:
        try:
            await self._app.commit(change)
        except Exception as error:  # noqa: BLE001 - what does not go by it must not go on
            trouble_of(error)
            self._app.abandon(change)
            return
        self._number = number
        self._app.let_go()

    async def _abandon(self, message: Message) -> None:
        if self._change is not None and self._change[0] == message["number"]:
            self._drop()

    def _drop(self) -> None:
        """Close what was prepared and will not be wanted any more."""
        if self._change is not None:
            change, self._change = self._change[1], None
            self._app.abandon(change)
