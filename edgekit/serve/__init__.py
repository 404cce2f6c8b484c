"""An OpenAI-compatible HTTP server for artifacts.

app.py           routes: from a request to a response
chat_request.py, completion_request.py, fields.py   from JSON to a checked request
models.py        the artifacts by name, opened when they are first asked for
served_model.py  one open artifact: makes a job of a request
scheduler.py     the thread that evaluates prompts and decodes the answers of several jobs together
slots.py         the KV caches, which later prompts with the same beginning reuse
replies.py       from the pieces of an answer to JSON and server-sent events
page.py, page/   the chat page at /, static files
guard.py         who may talk to the server
server.py        binds the socket and runs uvicorn
"""
