
# --- package managers ---------------------------------------------------------------------------------------------------
# One vocabulary for apt and dnf: what these functions take and print is the same on both.

# The package manager that the host's system is made with: a host may have the other one's programs too.
if [ -s /var/lib/dpkg/status ]; then
  family=apt
elif command -v dnf >/dev/null; then
  family=dnf
else
  family=none
fi

# For checks: the operation is for one family only. Use as: family_is dnf || return 2
family_is() {
  [ "$family" != "$1" ] || return 0
  echo "this is for hosts with $1, and this host has ${family#none}"
  return 1
}

# list_packages NAME…: lines "ii NAME VERSION". The first letter is what is wanted (h: held at its version), the second what
# there is (i: the package, c: no more than its configuration).
list_packages() {
  if [ "$family" = apt ]; then
    # Status-Abbrev ends with a space of its own.
    dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\n' "$@" 2>/dev/null
    return
  fi
  [ "$family" = dnf ] || return 0
  rpm -q --qf 'ii %{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\n' "$@" 2>/dev/null | while read -r _one _name _version; do
    [ "$_one" = ii ] || continue
    ! grep -qxF "$_name-$_version.*" /etc/dnf/plugins/versionlock.list 2>/dev/null || _one=hi
    printf '%s %s %s\n' "$_one" "$_name" "${_version#0:}"
  done
}

# compare_versions A lt|le|eq|ge|gt B, in the order of the host's package manager.
compare_versions() {
  if [ "$family" = apt ]; then
    dpkg --compare-versions "$1" "$2" "$3"
    return
  fi
  _a=${1#*:} _b=${3#*:} _c=0 _d=0 _e=0 _f=0
  [ "$_a" = "$1" ] || _c=${1%%:*}
  [ "$_b" = "$3" ] || _d=${3%%:*}
  # A version that is asked for without a release stands for any release of it.
  case $_b in *-*) _e=${_a#*-} _f=${_b#*-} ;; esac
  _order=$(rpm --eval "%{lua:local order = rpm.vercmp('$_c', '$_d')
if order == 0 then order = rpm.vercmp('${_a%%-*}', '${_b%%-*}') end
if order == 0 then order = rpm.vercmp('$_e', '$_f') end
print(order)}")
  case "$2 $_order" in 'lt -1' | 'le -1' | 'le 0' | 'eq 0' | 'ge 0' | 'ge 1' | 'gt 1') return 0 ;; esac
  return 1
}

# fits VERSION [RELATION VERSION]…: does it satisfy all of them?
fits() {
  _it=$1
  shift
  while [ $# -gt 0 ]; do
    compare_versions "$_it" "$1" "$2" || return 1
    shift 2
  done
}

# What the repositories have of a package, the best first.
available_versions() {
  if [ "$family" = apt ]; then
    # The candidate is what pinning chooses; it may be none of the newest.
    apt-cache policy -- "$1" | sed -n 's/^  Candidate: //p' | grep -vxF '(none)' || :
    apt-cache madison -- "$1" | cut -d '|' -f 2 | tr -d ' '
  else
    dnf -q repoquery --showduplicates --qf '%{epoch}:%{version}-%{release}' "$1" | sed 's/^0://' | sort -rVu
  fi
}

# pick_version NAME RELATION VERSION…: $picked is the best version in the repositories that fits; ends if there is none.
pick_version() {
  _package=$1
  shift
  [ "$family" != apt ] || apt_update || exit
  _offered=$(available_versions "$_package")
  for picked in $_offered; do
    ! fits "$picked" "$@" || return 0
  done
  _offered=$(printf '%s\n' "$_offered" | awk 'NF && !seen[$0]++ { printf "%s%s", separator, $0; separator = ", " }')
  die "the repositories offer ${_offered:-no version} of $_package, and none that was asked for"
}

# install_packages [OPTION]… SPEC…: in apt-get's words, NAME or NAME=VERSION.
install_packages() {
  if [ "$family" = apt ]; then
    apt_install "$@"
    return
  fi
  _left=$#
  while [ "$_left" -gt 0 ]; do
    _word=$1 _left=$((_left - 1))
    shift
    case $_word in
    --no-install-recommends) set -- "$@" --setopt=install_weak_deps=False ;;
    --allow-change-held-packages) set -- "$@" --disableplugin=versionlock ;;
    --allow-downgrades | --) ;; # dnf does that whenever a version is named
    *=*) set -- "$@" "${_word%%=*}-${_word#*=}" ;;
    *) set -- "$@" "$_word" ;;
    esac
  done
  dnf_do install "$@"
}

dnf_do() {
  [ "$family" = dnf ] || die 'this host has neither apt nor dnf'
  if [ -e "$flags/stale-lists" ]; then
    dnf -y --refresh "$@" || return
    rm -f "$flags/stale-lists"
    return
  fi
  # What is cached may name packages that the repository has replaced since.
  dnf -y "$@" || dnf -y --refresh "$@"
}

# remove_packages remove|purge NAME…
remove_packages() {
  if [ "$family" = apt ]; then
    apt_get "$@"
  else
    shift
    dnf_do remove --noautoremove "$@"
  fi
}

# hold_packages hold|unhold NAME…: dnf's holds are the versionlock plugin's.
hold_packages() {
  if [ "$family" = apt ]; then
    apt-mark "$@"
    return
  fi
  _verb=$1
  shift
  dnf versionlock --help >/dev/null 2>&1 || dnf_do install 'dnf-command(versionlock)'
  dnf -q versionlock delete "$@" >/dev/null 2>&1 || : # the version of a former hold
  [ "$_verb" = unhold ] || dnf -q versionlock add "$@"
}

# are_newest NAME…: 0 if the repositories have nothing newer; sets detail.
are_newest() {
  if [ "$family" = apt ]; then
    for _name in "$@"; do
      _candidate=$(apt-cache policy -- "$_name" | sed -n 's/^  Candidate: //p')
      _installed=$(dpkg-query -W -f '${Version}' "$_name")
      [ "$_installed" = "$_candidate" ] || { detail="$_installed -> $_candidate"; return 1; }
    done
    return 0
  fi
  _newer=$(dnf -q check-update "$@") && return 0
  [ $? -eq 100 ] || return 2
  detail=$(printf '%s\n' "$_newer" | awk 'NF == 3 { printf "%s%s -> %s", separator, $1, $2; separator = ", " }')
  return 1
}

# group_is present|absent NAME: a task of apt, a group of dnf.
group_is() {
  if [ "$family" = apt ]; then
    [ "$1" = present ] && _verb='install' _mark=Inst || _verb='remove' _mark=Remv
    _simulated=$(apt-get -s -q -o Debug::NoLocking=1 $_verb "$2^" 2>/dev/null) || return 1
    ! printf '%s\n' "$_simulated" | grep -q "^$_mark "
    return
  fi
  # Lists nothing, and is told so by its status too, where it is not installed.
  _groups=$(dnf -q group list --installed "$2" 2>/dev/null) || :
  case $_groups in *'Installed '*) [ "$1" = present ] ;; *) [ "$1" = absent ] ;; esac
}

# change_group install|remove NAME
change_group() {
  case $family$1 in
  aptinstall) apt_install "$2^" ;;
  aptremove) apt_get remove "$2^" ;;
  *) dnf_do group "$1" "$2" ;;
  esac
}

# --- keys of OpenPGP ----------------------------------------------------------------------------------------------------

# A key or signature in binary, however it was written.
dearmor() {
  case $(head -c 5 -- "$1" | tr -d '\000') in
  -----) tr -d '\r' <"$1" | awk '/^-----BEGIN/ { body = 0; next } /^-----END/ || /^=/ { body = 0 } body; /^$/ { body = 1 }' | base64 -d ;;
  *) cat -- "$1" ;;
  esac
}

# The fingerprints of the primary keys in a file (RFC 4880 and 9580), without a program for OpenPGP: a line each.
key_fingerprints() {
  dearmor "$1" >"$work/key" || return
  od -An -v -tu1 "$work/key" | awk '
BEGIN { n = 0; p = 0 }
{ for (i = 1; i <= NF; i++) b[n++] = $i }
END {
while (p < n) {
head = b[p++]
if (head >= 192) {
tag = head - 192; size = b[p++]
if (size == 255) { size = 0; for (i = 0; i < 4; i++) size = size * 256 + b[p++] }
else if (size >= 224) exit
else if (size >= 192) size = (size - 192) * 256 + b[p++] + 192
} else if (head >= 128 && head % 4 < 3) {
tag = int((head - 128) / 4); size = 0
for (i = 2 ^ (head % 4); i > 0; i--) size = size * 256 + b[p++]
} else exit
if (tag == 6) print p + 1, size, b[p]
p += size
}
}' | while read -r _at _size _format; do
    case $_format in
    4) { octets 153 $((_size / 256)) $((_size % 256)); tail -c "+$_at" "$work/key" | head -c "$_size"; } | sha1sum ;;
    6) { octets 155 0 0 $((_size / 256)) $((_size % 256)); tail -c "+$_at" "$work/key" | head -c "$_size"; } | sha256sum ;;
    esac
  done | cut -d ' ' -f 1 | tr a-f A-F
}

octets() {
  for _octet in "$@"; do
    printf "\\$(printf %03o "$_octet")"
  done
}

# key_is FILE FINGERPRINT…: does the file hold these keys, and no others? Sets detail.
key_is() {
  _file=$1
  shift
  _found=$(key_fingerprints "$_file") && [ -n "$_found" ] || { detail='the file holds no public key'; return 1; }
  for _key in $_found; do
    case " $* " in *" $_key "*) ;; *) detail="the file holds the key $_key, and not $*"; return 1 ;; esac
  done
}

# verify_signature FILE SIGNATURE KEYS: detached, by one of the keys.
verify_signature() {
  dearmor "$3" >"$work/keyring" || die 'the key cannot be read'
  if command -v gpgv >/dev/null; then
    gpgv --keyring "$work/keyring" "$2" "$1" 2>&1
  elif command -v sqv >/dev/null; then
    sqv --keyring "$work/keyring" "$2" "$1" 2>&1
  else
    die 'this host has neither gpgv nor sqv to verify a signature with'
  fi || die 'the signature is not one of the key'
}
