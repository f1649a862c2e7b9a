# Prints what is installed on a host, in sections: "=NAME", then lines that begin with a space. It reads only, and ends
# with 0: a tool that a host does not have leaves its section empty. inventory_packages and inventory_owned are the
# package manager's. "=end" is printed only if no list was cut. The line "//", which is the path of no file, is the last one
# of a list that goes through several programs: it is missing if one of them was killed.
_section() { echo "=$1"; sed 's/^/ /'; }
_tab=$(printf '\t')
_here=$work/inventory
mkdir -p "$_here"
# Passes on so many lines, and notes that there are more.
_most() { awk -v most="$1" -v cut="$_here/cut" 'NR > most { print >cut; exit } { print }'; }

(. @top/etc/os-release; printf '%s\t%s\t%s\n' "$ID" "${VERSION_ID:-}" "${VERSION_CODENAME:-}") | _section system
# Before the sealing or now.
_suffix=-ahead
[ -e "$work/owned-ahead" ] || {
_suffix=''
inventory_ahead '' || : >"$_here/cut"
}
_section packages <"$work/packages$_suffix"

# The files of the disk that the package database does not have: none, if it is not known which it has.
[ -s "$work/walk" ] && [ -e "$work/owned$_suffix" ] &&
awk -F '\t' -v OFS='\t' -v left='@left_out' -v skip='/__pycache__/' -v cut="$_here/cut" '
$1 == "?" { print >cut } # and what is in it
NF == 6 && $1 == "f" && $6 !~ left && $6 !~ skip { print $6, $4, $2 }
END { print "//" }' "$work/walk" | sort -u >"$_here/files" && grep -qx // "$_here/files" &&
join -t "$_tab" -v 2 "$work/owned$_suffix" "$_here/files" >"$_here/unowned" || : >>"$_here/unowned" >>"$_here/cut"
cut -f 1 "$_here/unowned" >"$_here/paths" || : >>"$_here/cut"

# Python: the metadata of distributions, and the files that their RECORD names.
grep -E '\.(dist-info/METADATA|egg-info/PKG-INFO|egg-info)$' "$_here/paths" | _most 5000 >"$_here/pip"
: >"$_here/claimed"
if [ -s "$_here/pip" ]; then
xargs -d '\n' awk -v OFS='\t' 'FNR == 1 { head = 1 } $0 == "" || $0 == "\r" { head = 0 }
head && /^(Name|Version|License|License-Expression|Author|Home-page): / { sub(/\r$/, ""); print FILENAME, substr($0, 1, 500) }
' <"$_here/pip" | _section pip
sed -n 's|METADATA$|RECORD|p' "$_here/pip" | while read -r _file; do
[ ! -f "$_file" ] || awk -v top="${_file%/*/*}/" '{
path = top $0; sub(/,[^,]*,[^,]*$/, "", path)
while (sub(/\/[^\/]+\/\.\.\//, "/", path)) ;
print path
}' "$_file"
done >>"$_here/claimed"
cat "$_here/pip" >>"$_here/claimed"
fi

# npm: each package has a package.json in a directory of node_modules; all files below it are the package's.
grep -E '/node_modules/(@[^/]+/)?[^/@.][^/]*/package\.json$' "$_here/paths" | _most 20000 >"$_here/npm"
if [ -s "$_here/npm" ]; then
xargs -d '\n' awk -v OFS='\t' 'FNR == 1 { version = licence = 0 }
!version && match($0, /"version"[ \t]*:[ \t]*"[^"]*"/) { version = 1; print FILENAME, substr($0, RSTART, RLENGTH) }
!licence && match($0, /"license"[ \t]*:[ \t]*"[^"]*"/) { licence = 1; print FILENAME, substr($0, RSTART, RLENGTH) }
' <"$_here/npm" | _section npm
awk 'NR == FNR { sub(/package\.json$/, ""); npm[$0] = 1; next }
/\/node_modules\// {
path = $0
while (match(path, /.*\/node_modules\/(@[^\/]+\/)?[^\/]+\//)) {
path = substr(path, 1, RLENGTH)
if (path in npm) { print $0; break }
sub(/\/node_modules\/(@[^\/]+\/)?[^\/]+\/$/, "/", path)
}
}' "$_here/npm" "$_here/paths" >>"$_here/claimed"
fi

# Java: the names of Maven projects and of archives in an archive are plain text in it.
grep -E '\.(jar|war|ear)$' "$_here/paths" | _most 1000 | while read -r _file; do
printf '%s\n' "$_file"
grep -a -o -E '(META-INF/maven/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/pom\.properties|(BOOT-INF|WEB-INF)/lib/[A-Za-z0-9._+-]+\.jar)' \
"$_file" | sort -u | awk -v OFS='\t' -v file="$_file" '{ print file, $0 }'
done | _section java

# Go: programs have the list of their modules after this mark, at a multiple of 16 bytes.
awk -F '\t' '$2 > 300000 && $3 ~ /[1357]/ { print $1 }' "$_here/unowned" | _most 2000 | while read -r _file; do
[ "$(head -c 4 -- "$_file" | tail -c 3)" = ELF ] || continue
grep -a -b -o "$(printf '\377') Go buildinf:" -- "$_file" | head -n 8 | while IFS=: read -r _at _; do
[ $((_at % 16)) = 0 ] || continue
printf '%s\t%s\n' "$_file" "$(tail -c "+$((_at + 1))" -- "$_file" | head -c 49152 | base64 | tr -d '\n')"
break
done
done | _most 64 | _section go

# The other files, with digests: at most 1,000 of them, and at most 512 MiB of contents.
sort -u "$_here/claimed" >"$_here/known" && join -t "$_tab" -v 2 "$_here/known" "$_here/unowned" >"$_here/rest" ||
: >>"$_here/rest" >>"$_here/cut"
wc -l <"$_here/rest" | _section count
head -n 1000 "$_here/rest" | awk -F '\t' '{ total += $2; if (total <= 536870912) print $1 }' |
xargs -d '\n' -r sha256sum -- 2>/dev/null | _section digests
head -n 1000 "$_here/rest" | _section files
[ -e "$_here/cut" ] || echo '=end'
rm -rf "$_here" "$work/packages$_suffix" "$work/owned$_suffix"
exit 0
