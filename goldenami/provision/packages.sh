
# --- package managers ---------------------------------------------------------------------------------------------------
# These functions have the same arguments and output on every host. $family is the host's package manager. Its functions are
# named FAMILY_VERB (see goldenami/os/managers/manager.py).

# For checks: the operation needs this package manager. Use as: family_is dnf || return 2
family_is() {
  [ "$family" != "$1" ] || return 0
  echo "this operation is for hosts with $1, and this host has the package manager $family"
  return 1
}

# managed VERB [ARGUMENT]...: calls the function of the host's package manager.
managed() {
  [ "$family" != none ] || { echo "this host has none of the package managers $families"; return 1; }
  _verb=${family}_$1
  shift
  "$_verb" "$@"
}

# list_packages NAME…: prints lines "ii NAME VERSION". The first letter is the wanted state (h: held at its version), the
# second the state (i: installed, c: only its configuration).
list_packages() {
  [ "$family" = none ] || managed list "$@"
}

# compare_versions A lt|le|eq|ge|gt B, in the order of the host's package manager.
compare_versions() {
  managed compare "$@"
}

# fits VERSION [RELATION VERSION]…: returns 0 if the version satisfies all relations.
fits() {
  _candidate=$1
  shift
  while [ $# -gt 0 ]; do
    compare_versions "$_candidate" "$1" "$2" || return 1
    shift 2
  done
}

# pick_version NAME RELATION VERSION…: sets $picked to the best matching version in the repositories; exits if there is none.
pick_version() {
  _package=$1
  shift
  refresh_lists || exit
  _offered=$(managed offers "$_package")
  for picked in $_offered; do
    ! fits "$picked" "$@" || return 0
  done
  _offered=$(printf '%s\n' "$_offered" | awk 'NF && !seen[$0]++ { printf "%s%s", separator, $0; separator = ", " }')
  die "the repositories offer ${_offered:-no version} of $_package, and none that was asked for"
}

# Fetches the lists of packages, if the manager keeps lists and they may be outdated.
refresh_lists() {
  managed refresh
}

# install_packages [OPTION]… SPEC…: options of apt-get; SPEC is NAME or NAME=VERSION.
install_packages() {
  managed install "$@"
}

# upgrade_packages NAME…: upgrades installed packages to the newest version.
upgrade_packages() {
  managed upgrade "$@"
}

# remove_packages remove|purge NAME…
remove_packages() {
  managed remove "$@"
}

# hold_packages hold|unhold NAME…
hold_packages() {
  managed hold "$@"
}

# are_newest NAME…: returns 0 if the repositories have no newer version; sets detail.
are_newest() {
  managed newest "$@"
}

# group_is present|absent NAME
group_is() {
  managed group_is "$@"
}

# change_group install|remove NAME
change_group() {
  managed group "$@"
}

# --- keys of OpenPGP ----------------------------------------------------------------------------------------------------

# dearmor FILE: prints a key or signature, armored or not, in binary.
dearmor() {
  case $(head -c 5 -- "$1" | tr -d '\000') in
  -----) tr -d '\r' <"$1" | awk '/^-----BEGIN/ { body = 0; next } /^-----END/ || /^=/ { body = 0 } body; /^$/ { body = 1 }' | base64 -d ;;
  *) cat -- "$1" ;;
  esac
}

# key_fingerprints FILE: prints the fingerprints of the primary keys in a file (RFC 4880 and 9580), one per line. It needs no
# OpenPGP program.
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

# key_is FILE FINGERPRINT…: returns 0 if the file contains no other keys than these, and at least one. Sets detail.
key_is() {
  _file=$1
  shift
  _found=$(key_fingerprints "$_file") && [ -n "$_found" ] || { detail='the file holds no public key'; return 1; }
  for _key in $_found; do
    case " $* " in *" $_key "*) ;; *) detail="the file holds the key $_key, and not $*"; return 1 ;; esac
  done
}

# verify_signature FILE SIGNATURE KEYS: fails if the detached signature is not by one of the keys.
verify_signature() {
  dearmor "$3" >"$work/keyring" || die 'the key cannot be read'
  if command -v gpgv >/dev/null; then
    gpgv --keyring "$work/keyring" "$2" "$1" 2>&1
  elif command -v sqv >/dev/null; then
    sqv --keyring "$work/keyring" "$2" "$1" 2>&1
  else
    die 'this host has neither gpgv nor sqv to verify a signature with'
  fi || die 'the signature was not made with the key'
}
