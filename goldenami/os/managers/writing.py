"""Shell code that shows files, and that writes them with the functions of ``provision/prelude.sh``, which every program
contains.
"""

from __future__ import annotations

from goldenami.shell import Script, sh

SHOW_FILES = """\
show_files() {
for _file in "$@"; do
[ ! -f "$_file" ] || awk -v name="$_file" 'BEGIN { print "=" name } { print " " $0 }' "$_file"
done
}"""
"""A function that prints files in the form of ``PackageManager.sources``."""


def put_file(path: str, contents: Script) -> Script:
    """Return code that writes a file of root with mode 0644 in one step. ``contents``: a shell word, the path of a file
    with the contents.
    """
    code = 'beside @path\ncat @contents >"$new"\nset_attributes "$new" 0644 root root\nreplace @path'
    return sh(code, path=path, contents=contents)
