"""Sections of a document that programs write: everything between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.

Each writer owns the sections of its name and leaves every other byte of the document alone.
"""

import re


def replace_section(document: str, name: str, body: str) -> str:
    """`document` with its section `name` holding `body`; appended at the end where there is none.

    Raises ValueError if the section is begun and not ended, or there are two of it.
    """
    begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
    section = f"{begin}\n{body.strip()}\n{end}"
    if document.count(begin) != document.count(end) or document.count(begin) > 1:
        raise ValueError(f"the document needs exactly one {begin} followed by one {end}, or neither")
    if begin not in document:
        return f"{document.rstrip()}\n\n{section}\n".lstrip()
    found = re.search(re.escape(begin) + ".*?" + re.escape(end), document, re.DOTALL)
    if found is None:
        raise ValueError(f"{end} stands before {begin}")
    return document[: found.start()] + section + document[found.end() :]
