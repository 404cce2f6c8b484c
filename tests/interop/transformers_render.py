"""Renders conversations with transformers: transformers_render.py TEMPLATES_FOLDER CASES prints {case: prompt}.

CASES is JSON: {case: {"template": file, "messages": [...], "special": {...}, ...}}. A template that fails gives null.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

folder, cases = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
prompts = {}
for name, case in cases.items():
    try:
        rendered = render_jinja_template(
            [case["messages"]],
            tools=case.get("tools"),
            documents=case.get("documents"),
            chat_template=(folder / case["template"]).read_text(encoding="utf-8"),
            add_generation_prompt=case.get("add_generation_prompt", True),
            **case.get("variables", {}),
            **case["special"],
        )
        prompts[name] = rendered[0][0]
    except TemplateError:
        prompts[name] = None
print(json.dumps(prompts, ensure_ascii=False))
