"""uvicorn's server with an end that clients understand: answers that go on too long end with an error of OpenAI's form.

uvicorn would cancel them: their clients would get a cut stream or a plain "Internal Server Error", and whoever ends the
server would see a traceback for each.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn

_CANCEL_S = 2.0  # after the answers have been ended, for clients that do not read


class Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn is not typed here
    """A server.

    Args:
        config: uvicorn's settings; the one for the end is set here.
        end_s: Seconds that answers may go on after the process is told to end.
        end_answers: Ends all answers with an error; called in another thread.
    """

    def __init__(self, config: uvicorn.Config, *, end_s: float, end_answers: Callable[[], None]) -> None:
        config.timeout_graceful_shutdown = end_s + _CANCEL_S
        super().__init__(config)
        self._end_s, self._end_answers = end_s, end_answers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for answers, then end them."""
        logging.getLogger("uvicorn.error").addFilter(_is_unexpected)
        loop = asyncio.get_running_loop()
        ending = loop.call_later(self._end_s, loop.run_in_executor, None, self._end_answers)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()


def _is_unexpected(record: logging.LogRecord) -> bool:
    """Whether a message is about something else than the end of a request that the server has cancelled."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError) and "timeout graceful shutdown" not in str(record.msg)
