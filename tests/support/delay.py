# SPDX-License-Identifier: MIT
"""A TCP port that leads to another one as if that were far away: python3 delay.py PORT SECONDS.

What arrives is passed on the given time later, in both directions, and in unlimited amounts. It is a process of its
own, which prints its port.
"""

import asyncio
import contextlib
import selectors
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PIECE = 65536


@contextmanager
def delayed(port: int, round_trip: float) -> Iterator[int]:
    """Give a port on 127.0.0.1 that leads to another one there, with a round-trip time in seconds."""
    words = [sys.executable, __file__, str(port), str(round_trip / 2)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Pass on what one side sends, and its end."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def receive() -> None:
        piece = b"to begin with"
        while piece:
            try:
                piece = await reader.read(PIECE)
            except OSError:
                piece = b""
            pieces.put_nowait((loop.time() + delay, piece))

    receiving = asyncio.create_task(receive())
    with contextlib.suppress(OSError):
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(due - loop.time())
            if not piece:
                break
            writer.write(piece)
            await writer.drain()
    writer.close()
    await receiving


async def _listen(port: int, delay: float) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_carry(reader, far_writer, delay), _carry(far_reader, writer, delay))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 (for who has started it)
    await server.serve_forever()


def main() -> None:
    """Listen until killed."""
    # that of asyncio's choice rounds each wait up to a millisecond
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(_listen(int(sys.argv[1]), float(sys.argv[2])))


if __name__ == "__main__":
    main()
