"""An HTTP server that streams answers, with asyncio and nothing else. An answer ends when its client has left.

python examples/asyncio/server.py ARTIFACT 8000
curl -N http://127.0.0.1:8000 -d "What is the capital of France?"
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

import edgekit

HEADER = "HTTP/1.1 {}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"


async def read_question(reader: asyncio.StreamReader) -> str:
    """The body of a request."""
    length = 0
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return (await reader.readexactly(length)).decode("utf-8", errors="replace")


async def send_answer(session: edgekit.AsyncSession, question: str, writer: asyncio.StreamWriter) -> str:
    """Answer a question. What is wrong with it is known before the first piece.

    Returns:
        What to log.
    """
    status, text = "200 OK", ""
    try:
        async with session.chat([{"role": "user", "content": question}], max_tokens=1024) as pieces:
            async for piece in pieces:
                if status:
                    writer.write(HEADER.format(status).encode())
                    status = ""
                if not piece.thought:
                    writer.write(piece.text.encode("utf-8"))
                    await writer.drain()
    except (edgekit.EdgekitError, ValueError) as error:
        if not status:  # the client sees that the answer is cut
            return f"failed: {error}"
        status, text = "400 Bad Request", f"{error}\n"
    if status:  # nothing was sent yet
        writer.write(f"{HEADER.format(status)}{text}".encode())
    return f"refused: {text.strip()}" if text else "answered"


async def serve(artifact: str, port: int) -> None:
    async with edgekit.AsyncSession(edgekit.load(artifact)) as session:

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                question = await read_question(reader)
            except (ValueError, asyncio.IncompleteReadError) as error:
                print(f"not a request: {error}", flush=True)
                writer.write(HEADER.format("400 Bad Request").encode())
                writer.close()
                return
            answer = asyncio.create_task(send_answer(session, question, writer))
            left = asyncio.create_task(reader.read())  # returns when the client closes the connection
            await asyncio.wait([answer, left], return_when=asyncio.FIRST_COMPLETED)
            answered = answer.done() and answer.exception() is None
            print(answer.result() if answered else "the client has left", flush=True)
            answer.cancel()
            left.cancel()
            await asyncio.gather(answer, left, return_exceptions=True)
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", port)
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: server.py ARTIFACT PORT")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
