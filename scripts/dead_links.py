"""Find links in the tracked Markdown files that lead to no file, or to no heading of one."""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(<?([^()\s<>]+(?:\([^()\s]*\))?)>?(?:\s+\"[^\"]*\")?\)")
CODE = re.compile(r"^(```|~~~).*?^\1[^\S\n]*$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def main() -> int:
    """Print each dead link with its place; 1 where there is one."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    dead = [line for name in listed.stdout.splitlines() for line in dead_links(ROOT / name)]
    for line in dead:
        print(line)
    print(f"{len(dead)} dead links in {len(listed.stdout.splitlines())} documents")
    return 1 if dead else 0


def dead_links(document: Path) -> list[str]:
    """The dead links of a document, each as `path:line: target: reason`. Addresses elsewhere are let be."""
    if not document.is_file():
        return []
    text = document.read_text("utf-8")
    prose = CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    found = []
    for link in LINK.finditer(prose):
        target = link[1]
        if ELSEWHERE.match(target):
            continue
        path, _, anchor = target.partition("#")
        file = document if not path else (ROOT / path[1:] if path[0] == "/" else document.parent / path)
        reason = ""
        if not file.exists():
            reason = "no such file"
        elif anchor and file.suffix == ".md" and anchor.lower() not in anchors(file):
            reason = "no such heading"
        if reason:
            line = prose.count("\n", 0, link.start()) + 1
            found.append(f"{document.relative_to(ROOT)}:{line}: {target}: {reason}")
    return found


@cache
def anchors(document: Path) -> frozenset[str]:
    """The anchors that a forge makes of a document's headings."""
    text = re.sub(r"^(```|~~~).*?^\1[^\S\n]*$", "", document.read_text("utf-8"), flags=re.M | re.S)
    made: list[str] = []
    for heading in HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        made.append(slug if slug not in made else f"{slug}-{made.count(slug)}")
    return frozenset(made)


if __name__ == "__main__":
    sys.exit(main())
