"""A reasoning model inside your own application, in ten lines.

python examples/python/chat.py ARTIFACT "What is the capital of France?"
"""

import sys

import edgekit

artifact, question = sys.argv[1:]
with edgekit.load(artifact) as session:
    answer = session.chat([{"role": "user", "content": question}], max_tokens=512)
    for piece in answer:
        if not piece.thought:
            print(piece.text, end="", flush=True)
    print(f"\n[{len(answer.completion.tokens)} tokens, the first after {answer.completion.ttft_s:.2f} s]")
