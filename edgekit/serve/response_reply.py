"""An answer in the form of OpenAI's API for responses: an object whose output is a list of items, or events.

https://platform.openai.com/docs/api-reference/responses-streaming. The thought is an item of the type ``reasoning``,
the text one of the type ``message``, each call of a function one of the type ``function_call``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..runtime.tool_calls import ToolCall
from .job import Ended, Text, Whole
from .replies import FINISH, Json, event, usage
from .request_error import RequestError


class ResponseReply:
    """An answer.

    Args:
        model: The model's name.
        echoed: Fields of the request that the response repeats.
    """

    def __init__(self, model: str, echoed: Mapping[str, Any]) -> None:
        self._head = {
            "id": _name("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            **echoed,
            "store": False,
        }
        self._output: list[Json] = []
        self._open: Json | None = None  # the item that is being written, the last one of the output
        self._number = 0  # of the next event

    def begin(self) -> bytes:
        """The events before any text."""
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def text(self, number: int, text: Text) -> bytes:
        """Events with text and calls."""
        sent = b""
        for piece in text.pieces:
            sent += self._write("reasoning" if piece.thought else "message", piece.text)
        for call in text.calls:
            sent += self._close() + self._call(call)
        return sent

    def end(self, number: int, ended: Ended) -> bytes:
        """The end of the last item. An answer that was not cut off has a message or a call, perhaps without text."""
        if FINISH[ended.finish] != "stop":
            return self._close("incomplete")
        begun = b"" if self._output and self._output[-1]["type"] != "reasoning" else self._write("message", "")
        return begun + self._close()

    def finish(self, ended: Sequence[Ended]) -> bytes:
        """The last event, with the whole response."""
        response = self._ended(ended[0])
        return self._event(f"response.{response['status']}", response=response)

    def fail(self, error: RequestError) -> bytes:
        """The last event of a stream that has failed."""
        return self._event("error", code=error.code or "server_error", message=error.message, param=error.param)

    def whole(self, answers: Sequence[Whole]) -> Json:
        """The answer as one object."""
        ((texts, ended),) = answers
        for text in texts:
            self.text(0, text)
        self.end(0, ended)
        return self._ended(ended)

    def _ended(self, ended: Ended) -> Json:
        counts = usage([ended])
        complete = FINISH[ended.finish] == "stop"
        tokens = {
            "input_tokens": counts["prompt_tokens"],
            "input_tokens_details": counts["prompt_tokens_details"],
            "output_tokens": counts["completion_tokens"],
            "output_tokens_details": counts["completion_tokens_details"],
            "total_tokens": counts["total_tokens"],
        }
        details = None if complete else {"reason": "max_output_tokens"}
        return self._response("completed" if complete else "incomplete", details, tokens)

    def _response(self, status: str, details: Json | None = None, tokens: Json | None = None) -> Json:
        return {
            **self._head,
            "status": status,
            "error": None,
            "incomplete_details": details,
            "output": list(self._output),
            "usage": tokens,
        }

    def _write(self, kind: str, text: str) -> bytes:
        """Add text to the item that is open, or to a new one if that is of another kind."""
        sent = b""
        if self._open is None or self._open["type"] != kind:
            sent = self._close() + self._begin(kind)
        if self._open is not None and text:
            self._open["content"][0]["text"] += text
            more: Json = {} if kind == "reasoning" else {"logprobs": []}
            sent += self._event(f"response.{_text_kind(kind)}.delta", **self._place, delta=text, **more)
        return sent

    def _begin(self, kind: str) -> bytes:
        """Open an item of text."""
        item: Json = {"id": _name("rs" if kind == "reasoning" else "msg"), "type": kind, "status": "in_progress"}
        more: Json = {"summary": []} if kind == "reasoning" else {"role": "assistant"}
        item |= more
        added = self._event("response.output_item.added", output_index=len(self._output), item={**item, "content": []})
        part: Json = {"type": _text_kind(kind), "text": ""}
        if kind == "message":
            part |= {"annotations": [], "logprobs": []}
        self._open = {**item, "content": [part]}
        self._output.append(self._open)
        return added + self._event("response.content_part.added", **self._place, part=dict(part))

    def _close(self, status: str = "completed") -> bytes:
        """End the item that is open."""
        item = self._open
        if item is None:
            return b""
        item["status"], part, place = status, item["content"][0], self._place
        self._open = None
        more: Json = {} if item["type"] == "reasoning" else {"logprobs": []}
        return (
            self._event(f"response.{_text_kind(item['type'])}.done", **place, text=part["text"], **more)
            + self._event("response.content_part.done", **place, part=part)
            + self._event("response.output_item.done", output_index=place["output_index"], item=item)
        )

    def _call(self, call: ToolCall) -> bytes:
        """An item with a call."""
        index, name = len(self._output), _name("fc")
        item = {"id": name, "type": "function_call", "status": "completed", "call_id": call.id, "name": call.name}
        self._output.append({**item, "arguments": call.arguments})
        place: Json = {"item_id": name, "output_index": index}
        begun = {**item, "status": "in_progress", "arguments": ""}
        return (
            self._event("response.output_item.added", output_index=index, item=begun)
            + self._event("response.function_call_arguments.delta", **place, delta=call.arguments)
            + self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments)
            + self._event("response.output_item.done", output_index=index, item=self._output[index])
        )

    @property
    def _place(self) -> Json:
        item = self._output[-1]
        return {"item_id": item["id"], "output_index": len(self._output) - 1, "content_index": 0}

    def _event(self, kind: str, **members: Any) -> bytes:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number - 1, **members}, kind)


def _text_kind(kind: str) -> str:
    return "reasoning_text" if kind == "reasoning" else "output_text"


def _name(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(16)}"
