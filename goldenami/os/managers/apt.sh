
# --- apt ----------------------------------------------------------------------------------------------------------------

apt_get() {
  DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a NEEDRESTART_SUSPEND=1 APT_LISTCHANGES_FRONTEND=none apt-get -y -q \
    -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confold -o Dpkg::Options::=--force-confdef $(apt_temporary) "$@"
}

# At least one list of packages has been fetched; with an argument of find: such as that.
apt_has_lists() {
  [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_*Packages*' "$@" 2>/dev/null | head -n 1)" ]
}

# Options for a builder, as words. The descriptions of packages in other languages are removed with the lists.
apt_temporary() {
  [ ! -d "$flags/boot" ] || echo '-o Acquire::Languages=none'
}

# The lists that a builder fetched while it booted are complete, and from the present sources.
apt_has_fetched() {
  [ -n "$(find "$flags/boot/fetched" -mmin -60 2>/dev/null)" ] && apt_has_lists || return 1
  [ ! -e "$flags/stale-lists" ] && [ "$(apt_configuration)" = "$(cat "$flags/boot/configuration")" ]
}

# Fetch the lists, at most once a stage: if they are missing, older than an hour, or if a repository has changed.
apt_refresh() {
  [ ! -e "$work/updated" ] || return 0
  if [ -e "$flags/boot/configuration" ]; then
    ! apt_has_fetched || return 0
    # From here on, the lists are those that the program fetched.
    rm -f "$flags/boot/configuration"
    apt_refresh_now
    return
  fi
  [ ! -e "$flags/stale-lists" ] && apt_has_lists -mmin -60 || apt_refresh_now
}

apt_refresh_now() {
  _tries=0
  # DPkg::Lock::Timeout does not cover the lock of the lists, which apt-daily.service holds for a while after boot.
  until apt_update >"$work/update" 2>&1; do
    _tries=$((_tries + 1))
    if [ $_tries -ge 60 ] || ! grep -q 'lists/lock' "$work/update"; then
      cat "$work/update"
      return 100
    fi
    sleep 2
  done
  rm -f "$flags/stale-lists"
  : >"$work/updated"
}

apt_install() {
  # After dpkg was killed during an installation, it refuses all work until `dpkg --configure -a` has run.
  [ -z "$(find /var/lib/dpkg/updates -name '[0-9]*' 2>/dev/null | head -n 1)" ] || dpkg --configure -a --force-confold
  apt_refresh || return
  apt_get install "$@" || {
    _failed=$?
    [ ! -e "$work/updated" ] || return $_failed
    # Lists that are a few minutes old may name versions that the archive has replaced in the meantime.
    apt_refresh_now && apt_get install "$@"
  }
}

apt_install_file() {
  apt_install --allow-change-held-packages --allow-downgrades "$@"
}

apt_package_in() {
  dpkg-deb -f "$1" Package
}

# apt_install has upgraded the packages already.
apt_upgrade() {
  :
}

apt_remove() {
  apt_get "$@"
}

apt_hold() {
  apt-mark "$@"
}

apt_list() {
  # The value of Status-Abbrev ends with a space.
  dpkg-query -W -f '${db:Status-Abbrev}${Package} ${Version}\n' "$@" 2>/dev/null
}

apt_compare() {
  dpkg --compare-versions "$1" "$2" "$3"
}

# The candidate is the version that pinning chooses; it may be older than the newest version.
apt_offers() {
  apt-cache policy -- "$1" | sed -n 's/^  Candidate: //p' | grep -vxF '(none)' || :
  apt-cache madison -- "$1" | cut -d '|' -f 2 | tr -d ' '
}

apt_newest() {
  for _name in "$@"; do
    _candidate=$(apt-cache policy -- "$_name" | sed -n 's/^  Candidate: //p')
    _installed=$(dpkg-query -W -f '${Version}' "$_name")
    [ "$_installed" = "$_candidate" ] || { detail="$_installed -> $_candidate"; return 1; }
  done
}

# A group is a task.
apt_group_is() {
  [ "$1" = present ] && _verb='install' _mark=Inst || _verb='remove' _mark=Remv
  _simulated=$(apt-get -s -q -o Debug::NoLocking=1 $_verb "$2^" 2>/dev/null) || return 1
  ! printf '%s\n' "$_simulated" | grep -q "^$_mark "
}

apt_group() {
  case $1 in
  install) apt_install "$2^" ;;
  *) apt_get remove "$2^" ;;
  esac
}

apt_flavour() {
  printf '%s\n' "-${1##*-}"
}

# Packages create /run/reboot-required, which is checked on every host.
apt_reboot_due() {
  return 1
}
