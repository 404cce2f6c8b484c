"""Reads the names that people give to models on the Hugging Face hub, and chooses a GGUF file of a repository.

owner/name      owner/name@revision      owner/name:Q4_K_M      owner/name@revision:file.gguf      owner/name/file.gguf
https://huggingface.co/owner/name        https://huggingface.co/owner/name/tree/revision
https://huggingface.co/owner/name/blob/revision/file.gguf       hf.co/owner/name       hf://owner/name
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import SourceError, nearest

_WORD = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"({_WORD}/{_WORD})(?:/(?P<path>[^@:]+\.gguf))?(?:@(?P<revision>[^:@]+))?(?::(?P<file>[^:@]+))?")
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_OTHER_KINDS = {"datasets": "a data set", "spaces": "a space"}
_LABEL = re.compile(r"(?:^|[-._])((?:UD-)?(?:I?Q|TQ)\d\w*|BF16|F16|FP16|F32|MXFP4\w*)(?=[-.]|$)", re.IGNORECASE)
_LATER_PART = re.compile(r"-(?!00001)\d{5}-of-\d{5}\.gguf$")


@dataclass(frozen=True)
class HubName:
    """A repository on the hub.

    Args:
        repository: ``owner/name``.
        revision: A commit, branch or tag; None if none was given.
        file: The name or the quantization of a GGUF file; empty if none was given.
    """

    repository: str
    revision: str | None = None
    file: str = ""

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"{self.repository}{revision}{self.file and f':{self.file}'}"


def parse_hub_name(text: str) -> HubName | None:
    """The repository that a text names; None if it does not have the form of one.

    Raises:
        SourceError: The text is a web address that names no model on the hub.
    """
    address = text if "://" in text else ""
    if text.lower().startswith(tuple(f"{host}/" for host in _HOSTS)):
        address = f"https://{text}"
    if address:
        return _parse_address(text, address)
    match = _NAME.fullmatch(text)
    if match is None or match[1].endswith(".gguf"):  # folder/file.gguf
        return None
    return HubName(match[1], match["revision"], match["file"] or match["path"] or "")


def _parse_address(text: str, address: str) -> HubName:
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise SourceError(f"{text} is not a valid web address: {error}") from None
    path = [unquote(part) for part in parts.path.split("/") if part]
    if parts.scheme == "hf":
        path = [parts.netloc, *path]
    elif parts.scheme not in ("http", "https") or not _is_hub(parts.netloc):
        raise SourceError(
            f"{text} is not an address of the Hugging Face hub",
            hint="give the repository as owner/name, or download the model and give its folder or file",
        )
    if path and path[0] in _OTHER_KINDS:
        raise SourceError(f"{text} is {_OTHER_KINDS[path[0]]}, not a model")
    if path[:1] == ["models"]:
        path = path[1:]
    rest = path[2:]
    name = parse_hub_name("/".join(path[:2]))
    if name is None:
        raise SourceError(f"{text} does not name a model: expected https://huggingface.co/owner/name")
    if rest[:1] and rest[0] in ("tree", "blob", "resolve", "raw", "commit") and len(rest) > 1:
        count = 3 if rest[1] == "refs" else 1  # refs/pr/1 is one revision
        revision, inside = "/".join(rest[1 : 1 + count]), "/".join(rest[1 + count :])
        return HubName(name.repository, revision, inside if inside.endswith(".gguf") else "")
    return name


def _is_hub(host: str) -> bool:
    if host.lower() in _HOSTS:
        return True
    own = os.environ.get("HF_ENDPOINT", "")
    try:
        return bool(own) and host == urlsplit(own).netloc
    except ValueError as error:
        raise SourceError(f"the environment variable HF_ENDPOINT, {own}, is not a web address: {error}") from None


def gguf_files(names: Sequence[str]) -> dict[str, str]:
    """The GGUF models among a repository's files, and the label of each: its quantization, otherwise its name.

    Of a split file, the first part stands for all. Files that hold no language model (``mmproj``, ``imatrix``) are
    left out.
    """
    found: dict[str, str] = {}
    for name in names:
        base = name.rpartition("/")[2]
        if not name.endswith(".gguf") or _LATER_PART.search(name) or re.match(r"(?i)mmproj|imatrix|.*-lora", base):
            continue
        labels = _LABEL.findall(re.sub(r"(-\d{5}-of-\d{5})?\.gguf$", "", base))
        found[name] = labels[-1].upper() if labels else base
    return found


def choose_gguf(repository: str, names: Sequence[str], wanted: str) -> str:
    """Choose a GGUF file of a repository.

    Args:
        repository: ``owner/name``, for messages.
        names: The files of the repository.
        wanted: A file's name with or without its folder and ``.gguf``, or its quantization; empty to take the only one.

    Raises:
        SourceError: There is no such file, or several; the message lists them.
    """
    found = gguf_files(names)
    if wanted:
        word = wanted.lower().removesuffix(".gguf")
        by_name = [n for n in found if word in (n.lower().removesuffix(".gguf"), _stem(n))]
        matching = by_name or [n for n, label in found.items() if label.lower() in (word, f"ud-{word}")]
    else:
        matching = list(found)
    if len(matching) == 1:
        return matching[0]
    shown = ", ".join(sorted(matching or found)) or "none"
    if not wanted:
        problem = f"{repository} holds {len(found)} GGUF models: {shown}"
    elif matching:
        problem = f"{repository} holds {len(matching)} files that {wanted!r} may mean: {shown}"
    else:
        hint = nearest(wanted, {*found.values(), *found}) if found else ""
        raise SourceError(f"{repository} has no GGUF file {wanted!r}; found: {shown}", hint=hint)
    labels = dict.fromkeys(found[n] for n in matching)
    example = next(iter(labels)) if len(labels) == len(matching) else matching[0]
    raise SourceError(problem, hint=f"name one of them: {repository}:{example}")


def _stem(name: str) -> str:
    return re.sub(r"-00001-of-\d{5}$", "", name.lower().rpartition("/")[2].removesuffix(".gguf"))
