"""Completion in bash, for words with @ in them. Click's own script is used for zsh and fish.

For bash, @ separates words. So Click's script would complete only what follows it, without the name before it: the
words are taken from the line instead, and the part that bash keeps is removed from the answers.
"""

from __future__ import annotations

import os
from typing import Final

from click.shell_completion import BashComplete, add_completion_class, split_arg_string

_SCRIPT: Final = """\
%(complete_func)s() {
    local IFS=$'\\n' line="${COMP_LINE:0:COMP_POINT}" response completion type value word keep
    word="${line##*[[:space:]]}"
    keep="${word%%"${word##*["$COMP_WORDBREAKS"]}"}"
    response=$(env COMP_LINE="$line" %(complete_var)s=bash_complete $1 2>/dev/null)
    for completion in $response; do
        IFS=',' read type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("${value#"$keep"}")
        fi
    done
    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_LINE")
        if line is None:  # the script of an earlier version is loaded
            return super().get_completion_args()
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words, incomplete


def prepare() -> None:
    """Use the script for bash. Call it before the program answers a shell."""
    add_completion_class(_Bash, "bash")
