# The first part of the program that reads the values of checks. POSIX sh. It changes only its own temporary directory.
# Argument: the word that marks lines which are not part of a value.
mark=$1
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
umask 077
cd /
exec </dev/null
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# read_value CONTROL CHECK FUNCTION: prints the output of the function between two marked lines.
read_value() {
  printf '\n%s value %s %s\n' "$mark" "$1" "$2"
  ("$3") 2>"$work/error"
  _status=$?
  printf '\n%s end %s\n' "$mark" "$_status"
  [ "$_status" -eq 0 ] || tail -n 1 "$work/error"
}

inapplicable() {
  printf '\n%s inapplicable %s\n' "$mark" "$1"
}

# --- functions for checks -------------------------------------------------------------------------------------------------------

# sshd_value KEYWORD: prints the effective value of the SSH server, from all files and defaults.
sshd_value() {
  if [ ! -e "$work/sshd" ]; then
    [ -d /run/sshd ] || mkdir -p -m 0755 /run/sshd
    sshd -T >"$work/sshd" || return
  fi
  awk -v key="$1" '$1 == key { $1 = ""; sub(/^ /, ""); print }' "$work/sshd"
}

# boot_setting NAME: prints the value that sysctl.d sets at boot. The last file in the order of names counts; of files with
# the same name, /etc comes before /run and /usr.
boot_setting() {
  if [ ! -e "$work/sysctl" ]; then
    for _name in $(ls /usr/lib/sysctl.d /run/sysctl.d /etc/sysctl.d 2>/dev/null | grep '[.]conf$' | sort -u); do
      for _folder in /etc /run /usr/lib; do
        [ -e "$_folder/sysctl.d/$_name" ] || continue
        cat "$_folder/sysctl.d/$_name"
        echo
        break
      done
    done | sed -n 's/^[[:space:]]*-\{0,1\}\([^#;=[:space:]][^=[:space:]]*\)[[:space:]]*=[[:space:]]*\(.*[^[:space:]]\)[[:space:]]*$/\1 \2/p' |
      tr '/' '.' >"$work/sysctl"
  fi
  awk -v key="$1" '$1 == key { value = $0; sub(/^[^ ]* /, "", value) } END { print value }' "$work/sysctl"
}

# sysctl_value NAME: prints the value of the running kernel, and the value at boot if it is different. In a container, where
# the kernel belongs to the host, prints only the value at boot.
sysctl_value() {
  _boot=$(boot_setting "$1")
  _path=/proc/sys/$(printf '%s' "$1" | tr . /)
  if [ ! -w "$_path" ]; then
    printf '%s\n' "${_boot:-not set}"
    return
  fi
  _live=$(tr -s '\t ' '  ' <"$_path")
  if [ "$_live" = "$_boot" ]; then printf '%s\n' "$_live"; else printf '%s now, %s at boot\n' "$_live" "${_boot:-not set}"; fi
}

# package_state NAME: prints installed or absent.
package_state() {
  if is_installed "$1"; then echo installed; else echo absent; fi
}

# installed_of NAME...: prints the packages that are installed.
installed_of() {
  for _package in "$@"; do
    [ "$(package_state "$_package")" = absent ] || printf '%s\n' "$_package"
  done
}

# unit_file UNIT: prints enabled, disabled, masked, static, ... or absent.
unit_file() {
  _state=$(systemctl is-enabled "$1" 2>/dev/null)
  case $_state in '' | not-found) echo absent ;; *) printf '%s\n' "$_state" ;; esac
}

# unit_state UNIT: prints active, inactive, failed, ...
unit_state() {
  systemctl is-active "$1" || :
}

# attributes PATH...: prints "MODE OWNER GROUP" of the paths, each combination once; absent for a path that does not exist.
attributes() {
  for _path in "$@"; do
    if [ -e "$_path" ]; then stat -L -c '%04a %U %G' -- "$_path"; else echo absent; fi
  done | sort -u
}

# wider_than MODE PATH...: prints the paths that have a permission which MODE does not have.
wider_than() {
  _mode=$1
  shift
  for _path in "$@"; do
    [ ! -e "$_path" ] || [ "$((0$(stat -L -c %a -- "$_path") & ~0$_mode & 07777))" -eq 0 ] || stat -L -c '%04a %n' -- "$_path"
  done
}

# mount_options_missing TARGET OPTION...: prints the options that a mounted filesystem does not have.
mount_options_missing() {
  _target=$1
  shift
  _options=$(findmnt -n -o OPTIONS --mountpoint "$_target" | tail -n 1)
  [ -n "$_options" ] || { echo "$_target is not mounted"; return; }
  for _option in "$@"; do
    case ",$_options," in *",$_option,"*) ;; *) printf '%s\n' "$_option" ;; esac
  done
}

# modules_allowed NAME...: prints the kernel modules that can be loaded, by name or on demand.
modules_allowed() {
  for _module in "$@"; do
    _dashed=$(printf '%s' "$_module" | tr _- '..')
    if ! grep -qsE "^[[:space:]]*install[[:space:]]+$_dashed[[:space:]]+(/usr)?/bin/(false|true)" /etc/modprobe.d/*.conf ||
      ! grep -qsE "^[[:space:]]*blacklist[[:space:]]+$_dashed[[:space:]]*$" /etc/modprobe.d/*.conf; then
      printf '%s\n' "$_module"
    fi
  done
}

# setting FILE KEY: prints the value of the key in a file of "key value" or "key = value" lines; the last line counts.
setting() {
  sed -n "s/^[[:space:]]*$2[[:space:]]*[=[:space:]][[:space:]]*\(.*[^[:space:]]\)[[:space:]]*\$/\1/p" "$1" | tail -n 1
}

# systemd_setting FILE KEY: the same for a systemd configuration file and its drop-ins, which override the file.
systemd_setting() {
  for _file in /etc/systemd/"$1" /usr/lib/systemd/"$1".d/*.conf /run/systemd/"$1".d/*.conf /etc/systemd/"$1".d/*.conf; do
    [ ! -e "$_file" ] || printf '%s %s\n' "${_file##*/}" "$_file"
  done | LC_ALL=C sort -s -k 1,1 | while read -r _ _file; do
    _value=$(setting "$_file" "$2")
    [ -z "$_value" ] || printf '%s\n' "$_value"
  done | tail -n 1
}

# people: prints the names and home directories of the accounts of persons.
people() {
  _least=$(setting /etc/login.defs UID_MIN)
  awk -F: -v least="${_least:-1000}" '$3 >= least && $3 < 65534 && $7 !~ /(nologin|false)$/ { print $1, $6 }' /etc/passwd
}
