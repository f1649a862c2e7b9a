"""Where the home directories of a host are."""

HOMES = """if [ -n "${_homes-}" ]; then printf '%s\\n' "$_homes"; else
getent passwd | cut -d: -f6 | sort -u | while read -r _home; do
[ "$_home" = / ] || [ ! -d "$_home" ] || printf '%s\\n' "$_home"
done
fi"""
"""Shell code that prints the home directories that exist, one per line. Code that needs them several times keeps them
in ``_homes``: each search starts some programs."""
