# SPDX-License-Identifier: MIT
"""A system bus with a systemd behind it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer

from jeepney import HeaderFields, Parser, new_error, new_method_return

from support.serving import answering


@contextmanager
def bus_at(address: Path, start: Callable[[str, str], str | None]) -> Iterator[None]:
    """Listen as the system bus does.

    Args:
        address: Where.
        start: Called with the name of a unit that is to start, and the mode of the job; returns why that is refused,
            "" if it is not, and None if nobody answers.
    """

    class Client(StreamRequestHandler):
        rbufsize = 0

        def handle(self) -> None:
            assert self.rfile.readline().startswith(b"\0AUTH EXTERNAL ")
            self.wfile.write(b"OK 0123456789abcdef\r\n")
            assert self.rfile.readline() == b"BEGIN\r\n"
            calls = Parser()
            while data := self.rfile.read(4096):
                calls.add_data(data)
                while call := calls.get_next_message():
                    if call.header.fields[HeaderFields.member] == "Hello":
                        answer = new_method_return(call, "s", (":1.7",))
                    elif (why := start(*call.body)) is None:
                        continue
                    elif why:
                        answer = new_error(call, "org.freedesktop.systemd1.NoSuchUnit", "s", (why,))
                    else:
                        answer = new_method_return(call, "o", ("/org/freedesktop/systemd1/job/7",))
                    self.wfile.write(answer.serialise(serial=call.header.serial))

    with answering(ThreadingUnixStreamServer(str(address), Client)):
        yield
