"""Shell code that writes files with the functions of ``provision/prelude.sh``, which every program contains."""

from __future__ import annotations

from goldenami.shell import Script, sh


def put_file(path: str, contents: Script) -> Script:
    """Return code that writes a file of root with mode 0644 in one step. ``contents``: a shell word, the path of a file
    with the contents.
    """
    code = 'beside @path\ncat @contents >"$new"\nset_attributes "$new" 0644 root root\nreplace @path'
    return sh(code, path=path, contents=contents)
