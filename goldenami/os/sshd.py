"""The SSH server of a host: its settings, and where it looks for the keys of its accounts."""

from __future__ import annotations

KeyEntry = tuple[str, str, str]  # a file, its owner, and a line of it

_SSHD = '"$(command -v sshd || echo /usr/sbin/sshd)"'

SETTINGS = f"{_SSHD} -T 2>/dev/null || {_SSHD} -t"
"""Shell code that checks the configuration of sshd, and prints the settings that are in effect. It runs as root.

``sshd -T`` does both. An older one refuses that for a configuration with Match, and prints nothing: then ``sshd -t``
decides."""

KEY_FILES = r"""{ set +e
{ "$(command -v sshd || echo /usr/sbin/sshd)" -T
cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*
} 2>/dev/null |
awk 'tolower($1) == "authorizedkeysfile" { for (i = 2; i <= NF; i++) print "file " $i }' | tr -d '"'
printf 'file %s\n' .ssh/authorized_keys .ssh/authorized_keys2
getent passwd | sed 's/^/user /'
} | awk '
function filled(text, token, value,    at, found) {
while (at = index(text, token)) { found = found substr(text, 1, at - 1) value; text = substr(text, at + length(token)) }
return found text
}
$1 == "file" { if (!($2 in known)) { known[$2]; names[++count] = $2 }; next }
{
split(substr($0, 6), field, ":")
for (i = 1; i <= count; i++) {
path = filled(filled(filled(names[i], "%h", field[6]), "%u", field[1]), "%U", field[3])
path = filled(path, "%%", "%")
if (path !~ /^\//) path = field[6] "/" path
if (!(path in seen)) { seen[path]; print path }
}
}'"""
"""Shell code that prints the files in which sshd looks for the keys of all accounts, one per line, also those that do
not exist: by its settings (``sshd -T``), by the settings under Match, and by its default (AuthorizedKeysFile in
sshd_config(5)). It runs as root.
"""

KEY_ENTRIES = f"""{{ {KEY_FILES}
}} | sort -u | while read -r file; do
  [ ! -f "$file" ] || file=$file owner=$(stat -c %U "$file") \\
    awk '{{ print ENVIRON["file"] "\\t" ENVIRON["owner"] "\\t" $0 }}' <"$file"
done"""
"""Shell code that prints the lines of these files, each after the path of its file and the owner of that."""


def key_entries(output: str) -> list[KeyEntry]:
    """Return the entries that KEY_ENTRIES printed. A comment may have characters that str.splitlines ends a line at."""
    lines = (line.split("\t", 2) for line in output.split("\n") if line)
    return [(file, owner, entry) for file, owner, entry in lines]
