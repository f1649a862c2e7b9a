# Prints the state of a host, in sections: "=NAME", then lines that begin with a space. It reads only, and ends with 0: a
# tool that a host does not have leaves its section empty. "=end" is printed only if the lists of files are whole.
_section() { echo "=$1"; sed 's/^/ /'; }
_tab=$(printf '\t')

systemctl list-unit-files --no-legend --no-pager --plain 2>/dev/null |
awk -v OFS='\t' '$2 ~ /^(enabled|masked|linked)/ { print $1, $2 }' | sort | _section services
awk -F: -v OFS='\t' 'NF >= 7 { print $1, $3, $4, $6, $7 }' @top/etc/passwd | sort | _section users
awk -F: -v OFS='\t' 'NF >= 4 { print $1, $3, $4 }' @top/etc/group | sort | _section groups
ss -H -l -n -t -u 2>/dev/null | awk '{ print $1 " " $5 }' | sort -u | _section ports
# The kernel's values of the keys that a file sets. All keys would have counters, times and random numbers.
cat @top/usr/lib/sysctl.d/*.conf @top/etc/sysctl.d/*.conf @top/etc/sysctl.conf 2>/dev/null |
sed -n 's|^[ '"$_tab"'-]*\([a-z][A-Za-z0-9_./-]*\)[ '"$_tab"']*=.*|\1|p' | tr / . | sort -u | head -n 1000 |
awk -v OFS='\t' '{ path = $0; gsub(/\./, "/", path); path = "/proc/sys/" path
value = ""; if ((getline value <path) > 0) print $0, value; close(path) }' | _section sysctls
df -P -k @top/ | awk 'NR == 2 { printf "%.0f\n", $3 * 1024 }' | _section used

# Every file of the disks, and the SHA-256 of the regular ones. What is mounted by the kernel, and /tmp, is in no image.
# A file that others may not read has no digest: a short secret could be guessed from it.
_mounts=$(awk -v top=@top/ '$1 ~ "^/dev/" && $2 != "/" && index($2, top) == 1 { print $2 }' /proc/mounts)
_left_out="-path @top/proc -o -path @top/sys -o -path @top/dev -o -path @top/run -o -path @top/tmp -o -path @top/var/tmp"
# What was cut is told on 5. xargs ends with 123 if files could not be read.
{ _cut=$({
find @top/ $_mounts -xdev \( $_left_out \) -prune -o -printf '%y\t%m\t%U:%G\t%s\t%l\t%p\n' 2>/dev/null |
{ awk 'NR > 200000 { exit 1 } { print }' || echo files >&5; } | _section files >&4
find @top/ $_mounts -xdev \( $_left_out \) -prune -o -type f -perm -004 -size -65536k -print0 2>/dev/null |
head -z -n 200000 | { timeout 120 xargs -0 -r sha256sum -- 2>/dev/null || [ $? = 123 ] || echo digests >&5; } |
awk '/^[0-9a-f]/ { print substr($0, 1, 16) "\t" substr($0, 67) }' | _section digests >&4
} 5>&1); } 4>&1
[ -n "$_cut" ] || echo '=end'
exit 0
