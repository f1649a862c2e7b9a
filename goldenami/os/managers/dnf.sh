
# --- dnf ----------------------------------------------------------------------------------------------------------------

dnf_do() {
  if [ -e "$flags/stale-lists" ]; then
    dnf -y --refresh "$@" || return
    rm -f "$flags/stale-lists"
    return
  fi
  # The cache may name packages that the repository has replaced in the meantime.
  dnf -y "$@" || dnf -y --refresh "$@"
}

# dnf fetches outdated lists automatically.
dnf_refresh() {
  :
}

# The options are apt-get's.
dnf_install() {
  _left=$#
  while [ "$_left" -gt 0 ]; do
    _word=$1 _left=$((_left - 1))
    shift
    case $_word in
    --no-install-recommends) set -- "$@" --setopt=install_weak_deps=False ;;
    --allow-change-held-packages) set -- "$@" --disableplugin=versionlock ;;
    --allow-downgrades | --) ;; # dnf always permits a downgrade to a given version
    *=*) set -- "$@" "${_word%%=*}-${_word#*=}" ;;
    *) set -- "$@" "$_word" ;;
    esac
  done
  dnf_do install "$@"
}

dnf_install_file() {
  dnf_install --allow-change-held-packages --nogpgcheck "$@"
}

dnf_package_in() {
  rpm -q --nosignature --qf '%{NAME}' -p "$1"
}

dnf_upgrade() {
  dnf_do upgrade "$@"
}

dnf_remove() {
  shift
  dnf_do remove --noautoremove "$@"
}

# The versionlock plugin holds packages.
dnf_hold() {
  _verb=$1
  shift
  dnf versionlock --help >/dev/null 2>&1 || dnf_do install 'dnf-command(versionlock)'
  dnf -q versionlock delete "$@" >/dev/null 2>&1 || : # removes the version of an earlier hold
  [ "$_verb" = unhold ] || dnf -q versionlock add "$@"
}

dnf_list() {
  rpm -q --qf 'ii %{NAME} %{EPOCHNUM}:%{VERSION}-%{RELEASE}\n' "$@" 2>/dev/null | while read -r _one _name _version; do
    [ "$_one" = ii ] || continue
    ! grep -qxF "$_name-$_version.*" /etc/dnf/plugins/versionlock.list 2>/dev/null || _one=hi
    printf '%s %s %s\n' "$_one" "$_name" "${_version#0:}"
  done
}

dnf_compare() {
  _a=${1#*:} _b=${3#*:} _c=0 _d=0 _e=0 _f=0
  [ "$_a" = "$1" ] || _c=${1%%:*}
  [ "$_b" = "$3" ] || _d=${3%%:*}
  # A version without a release matches all of its releases.
  case $_b in *-*) _e=${_a#*-} _f=${_b#*-} ;; esac
  _order=$(rpm --eval "%{lua:local order = rpm.vercmp('$_c', '$_d')
if order == 0 then order = rpm.vercmp('${_a%%-*}', '${_b%%-*}') end
if order == 0 then order = rpm.vercmp('$_e', '$_f') end
print(order)}")
  case "$2 $_order" in 'lt -1' | 'le -1' | 'le 0' | 'eq 0' | 'ge 0' | 'ge 1' | 'gt 1') return 0 ;; esac
  return 1
}

dnf_offers() {
  dnf -q repoquery --showduplicates --qf '%{epoch}:%{version}-%{release}' "$1" | sed 's/^0://' | sort -rVu
}

dnf_newest() {
  _newer=$(dnf -q check-update "$@") && return 0
  [ $? -eq 100 ] || return 2
  detail=$(printf '%s\n' "$_newer" | awk 'NF == 3 { printf "%s%s -> %s", separator, $1, $2; separator = ", " }')
  return 1
}

dnf_group_is() {
  # If the group is not installed, dnf lists nothing and may return an error.
  _groups=$(dnf -q group list --installed "$2" 2>/dev/null) || :
  case $_groups in *'Installed '*) [ "$1" = present ] ;; *) [ "$1" = absent ] ;; esac
}

dnf_group() {
  dnf_do group "$1" "$2"
}

dnf_flavour() {
  printf '%s\n' ".${1##*.}"
}

dnf_reboot_due() {
  dnf needs-restarting --help >/dev/null 2>&1 || return 1
  # Its status is 1 if a reboot is required, and also for errors. Only the first case has this text.
  _output=$(dnf -q needs-restarting -r 2>/dev/null) || case $_output in
  *'eboot is required'*) detail='dnf needs-restarting reports that a reboot is required'; return 0 ;;
  esac
  return 1
}
