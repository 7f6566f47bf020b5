"""A TCP proxy that spoils what goes through it, in either direction, as it is told while
it runs."""

import asyncio
import contextlib
import socket
import struct
import threading

TO_REDIS, FROM_REDIS = "to Redis", "from Redis"


class Link:
    """A connection of a client's, and the one to the server that is made for it."""

    def __init__(self, proxy, writers):
        self.proxy, self.writers = proxy, writers

    async def wait(self, seconds=None):
        """Waits so long, or for ever, but no longer than the mode is in force."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.proxy.changed.wait(), seconds)

    def close(self, reset=False):
        """Closes both connections: with FIN, or with RST where `reset`."""
        for writer in self.writers:
            if reset:
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()


# --- Modes: what is done with bytes that came, and are for `to` ---


async def forward(link, data, to):
    to.write(data)
    await to.drain()


async def drop(link, data, to):
    """A black hole: the bytes are gone, and the connection stays."""


async def hold(link, data, to):
    """Half-open: nothing is forwarded while it lasts, and nothing closed; what was held
    comes after all."""
    await link.wait()
    await forward(link, data, to)


async def cut(link, data, to):
    """The connection ends amid what was said."""
    await forward(link, data[:len(data) // 2], to)
    link.close()


async def reset(link, data, to):
    link.close(reset=True)


async def single_bytes(link, data, to):
    for number in range(len(data)):
        await forward(link, data[number:number + 1], to)
        await asyncio.sleep(0)


def delay(seconds):
    async def late(link, data, to):
        await link.wait(seconds)
        await forward(link, data, to)
    return late


def throttle(bytes_a_second):
    async def trickle(link, data, to):
        for number in range(len(data)):
            await link.wait(1 / bytes_a_second)
            await forward(link, data[number:number + 1], to)
    return trickle


class Proxy:
    """On a free port of loopback, which is `port`, in front of another one."""

    def __init__(self, target: int):
        self.target = target
        self.modes = {TO_REDIS: forward, FROM_REDIS: forward}
        self.links = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._run(self._listen())

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=10)

    async def _listen(self):
        self.changed = asyncio.Event()  # Set as soon as the modes it was made for end.
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def switch(self, direction, mode):
        async def switch():
            self.modes[direction] = mode
            self.changed.set()
            self.changed = asyncio.Event()
        self._run(switch())

    async def _serve(self, reader, writer):
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        for one in (writer, server_writer):
            one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(self, (writer, server_writer))
        self.links.add(link)
        try:
            await asyncio.gather(self._pump(link, TO_REDIS, reader, server_writer),
                                 self._pump(link, FROM_REDIS, server_reader, writer))
        finally:
            self.links.discard(link)

    async def _pump(self, link, direction, source, to):
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                await self.modes[direction](link, data, to)
        link.close()

    def stop(self):
        async def stop():
            self.server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        self._run(stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@contextlib.contextmanager
def proxy(target: int):
    running = Proxy(target)
    try:
        yield running
    finally:
        running.stop()
