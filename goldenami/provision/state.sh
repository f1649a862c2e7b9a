# Prints the state of a host, in sections: "=NAME", then lines that begin with a space. It reads only, and ends with 0: a
# tool that a host does not have leaves its section empty. "=end" is printed only if the lists of files are whole.
_section() { echo "=$1"; sed 's/^/ /'; }
_tab=$(printf '\t')

# systemd takes a while for its list.
_units=''
[ -e "$work/units-begun" ] || {
read_units &
_units=$!
}
awk -F: -v OFS='\t' 'NF >= 7 { print $1, $3, $4, $6, $7 }' @top/etc/passwd | sort | _section users
awk -F: -v OFS='\t' 'NF >= 4 { print $1, $3, $4 }' @top/etc/group | sort | _section groups
{ if [ -e "$work/ports" ]; then cat "$work/ports"; else ss -H -l -n -t -u 2>/dev/null; fi; } |
awk '{ print $1 " " $5 }' | sort -u | _section ports
# The kernel's values of the keys that a file sets. All keys would have counters, times and random numbers.
cat @top/usr/lib/sysctl.d/*.conf @top/etc/sysctl.d/*.conf @top/etc/sysctl.conf 2>/dev/null |
sed -n 's|^[ '"$_tab"'-]*\([a-z][A-Za-z0-9_./-]*\)[ '"$_tab"']*=.*|\1|p' | tr / . | sort -u | head -n 1000 |
awk -v OFS='\t' '{ path = $0; gsub(/\./, "/", path); path = "/proc/sys/" path
value = ""; if ((getline value <path) > 0) print $0, value; close(path) }' | _section sysctls
df -P -k @top/ | awk 'NR == 2 { printf "%.0f\n", $3 * 1024 }' | _section used

# Every file of the disks, and the SHA-256 of the regular ones. A file that others may not read has no digest: a short
# secret could be guessed from it. Eight at once read: a new volume of EBS fetches each block when it is first read.
# What was cut is told on 5.
_digests=$work/digests
mkdir -p "$_digests"
{ _cut=$({
awk 'NR > 200000 { cut = 1; exit } $1 == "?" { cut = 1 } { print } END { exit cut + 0 }' "$work/walk" >"$_digests/files" || echo files >&5
_section files <"$_digests/files" >&4
awk -F '\t' '@digested' "$_digests/files" >"$_digests/paths"
# What was read ahead counts if the time of the last change and the inode are the same, and that time was two seconds
# over when the reading began. A path may be there twice, such as one where a disk is mounted.
if [ -n "$_ahead" ] && [ -s "$_ahead/began" ] && [ -s "$stamps" ]; then
cat "$_ahead"/of.* >"$_digests/ahead" 2>/dev/null
awk -v OFS='\t' -v began="$(cat "$_ahead/began")" -v known="$_digests/of.ahead" '
of == "paths" { if (!($0 in have)) print; next }
of == "digests" { path = substr($0, 67)
if (/^[0-9a-f]/ && (path in old) && (path in now) && old[path] == now[path]) { have[path]; print >known }; next }
{ split($0, part, "\t"); path = part[3]; stamp = part[1] OFS part[2] }
of == "old" { if (path in old || part[1] + 2 > began) stamp = "old"; old[path] = stamp }
of == "now" { if (path in now) stamp = "now"; now[path] = stamp }
' of=old "$_ahead/stamps" of=now "$stamps" of=digests "$_digests/ahead" of=paths "$_digests/paths" \
>"$_digests/left" &&
mv "$_digests/left" "$_digests/paths" || rm -f "$_digests/of.ahead"
fi
timeout 120 xargs -d '\n' -r -P 8 -n 1000 sh -c "$read_sums" "$_digests" <"$_digests/paths" 2>/dev/null ||
echo digests >&5
cat "$_digests"/of.* 2>/dev/null | awk '/^[0-9a-f]/ { print substr($0, 1, 16) "\t" substr($0, 67) }' |
_section digests >&4
} 5>&1); } 4>&1
_tries=0
if [ -n "$_units" ]; then wait "$_units" || :; else
until [ -e "$work/units" ] || [ "$_tries" -ge 1000 ]; do sleep 0.01; _tries=$((_tries + 1)); done
[ -e "$work/units" ] || read_units
fi
# The service that ends a builder after its lifetime may have been there when they were listed.
awk -v OFS='\t' '$2 ~ /^(enabled|masked|linked)/ && $1 !~ /^goldenami-.*-lifetime\.service$/ { print $1, $2 }' \
"$work/units" | sort | _section services
rm -rf "$_digests" "$work/units" "$work/units-begun" "$work/ports" "$stamps" ${_ahead:+"$_ahead"}
[ -n "$_cut" ] || echo '=end'
exit 0
