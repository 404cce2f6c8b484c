"""The options of ``build`` and ``plan`` that say how an artifact converses."""

from __future__ import annotations

import click

from . import _options as options

reasoning = click.option(
    "--reasoning/--no-reasoning",
    default=None,
    help="Treat the model as one that does or does not think between <think> and </think> before it answers  "
    "[default: by the recipe, or by the signs in the checkpoint]",
)
# By the fields of BuildRequest.
CONVERSATION_OPTIONS: dict[str, options.Decorator] = {
    "reasoning": reasoning,
    "chat_template": click.option(
        "--chat-template",
        metavar="FILE",
        type=click.Path(),
        help="Use the jinja template in this file instead of the checkpoint's.",
    ),
    "stop": click.option(
        "--stop",
        metavar="TEXT",
        multiple=True,
        help="End answers at this text, in addition to what ends a turn in the chat template. May be repeated.",
    ),
}
