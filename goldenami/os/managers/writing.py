"""Shell code that writes files, by the functions that every program has (``provision/prelude.sh``)."""

from __future__ import annotations

from goldenami.shell import Script, sh


def put_file(path: str, contents: Script) -> Script:
    """Puts a file of root's in its place in one step, mode 0644. ``contents``: the word that is the path of them."""
    code = 'beside @path\ncat @contents >"$new"\nset_attributes "$new" 0644 root root\nreplace @path'
    return sh(code, path=path, contents=contents)
