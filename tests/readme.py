"""What README.md tells a reader to write and to type, taken from it by content."""

import re
from pathlib import Path

__all__ = ["README", "block"]

README = Path(__file__).parents[1] / "README.md"


def block(*words: str, path: Path = README) -> str:
    """Return the first code block, fenced or indented, that holds all these words."""
    text = path.read_text()
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^(?: {4}.*)?\n)+", plain, re.MULTILINE)
    found: str
    for found in [*fenced, *(re.sub(r"^ {4}", "", part, flags=re.MULTILINE) for part in indented)]:
        if all(word in found for word in words):
            return found.strip("\n") + "\n"
    raise AssertionError(f"README.md has no code with {' and '.join(map(repr, words))}")
