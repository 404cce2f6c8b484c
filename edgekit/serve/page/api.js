// The server's interface, as docs/server.md describes it.

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

async function call(path, key, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new ApiError(sentence(body.error?.message ?? `The server answered with status ${response.status}`), response.status);
}

export async function listModels(key) {
  return (await (await call("/v1/models", key)).json()).data;
}

// Bytes of memory that the server's process uses; undefined if the server does not know.
export async function serverMemory(key) {
  const found = (await (await call("/metrics", key, { signal: AbortSignal.timeout(2000) })).text()).match(/^process_resident_memory_bytes (\d+)$/m);
  return found ? Number(found[1]) : undefined;
}

// The chunks of an answer. Throws ApiError if the server refuses or the stream breaks off.
export async function* streamChat(body, key, signal) {
  const request = { ...body, stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  const response = await call("/v1/chat/completions", key, {
    method: "POST", body: JSON.stringify(request), headers: { "Content-Type": "application/json" }, signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      part = { done: true };
    }
    if (part.done) throw new ApiError("The connection ended before the answer was complete.");
    const events = (buffer + part.value).split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a comment, which keeps the connection open
      const data = event.slice(6);
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError(sentence(chunk.error.message));
      yield chunk;
    }
  }
}

function sentence(text) {
  const start = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
