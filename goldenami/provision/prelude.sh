# What every program begins with. POSIX sh, coreutils, and what an operation itself needs; no Python.
# Arguments: the working directory, the word that marks event lines, "apply" or "check", the first operation to run; and of an
# earlier run that the host has forgotten: which operations changed something, and which must not be run again.
work=$1 mark=$2 mode=$3 first=$4 changed=$5 spared=$6

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
unset LANGUAGE IFS
umask 022
cd /
exec </dev/null

flags=/run/goldenami # handlers that are due: kept outside of the working directory, so that they survive a run that was cut off
packages_known='' together=' ' detail='' state=''
[ -d "$flags" ] || mkdir -m 0700 "$flags"
: >"$flags/.${work##*/}" # it is there for as long as a program runs, and no other one's end takes it away
: >"$work/detail"

# --- events -----------------------------------------------------------------------------------------------------------

# An event is a line of its own, whatever was printed before it: so it begins with a line end, which the reader takes back.
event() {
  printf '\n%s %s\n' "$mark" "$*"
}

# The time since boot, in seconds, without starting a process.
now() {
  read -r now _ </proc/uptime
}

stage() {
  now
  event stage "$1" "$now"
}

finish() {
  now
  event "$2" "$1" "$now" "$3" "$detail"
}

# For checks: nothing to do here, for this reason. Use as: skip "reason"; return
skip() {
  state=skipped detail=$1
}

# For applies, which are subshells: what to say of the change.
note() {
  printf '%s' "$*" | tr '\n' ' ' >"$work/detail"
}

die() {
  printf '%s\n' "$*"
  exit 1
}

# What a reboot changes: told first, so that nobody needs to ask for it.
read -r boot </proc/sys/kernel/random/boot_id
event begin "$boot"

# --- the cycle of one operation ---------------------------------------------------------------------------------------

# Ends with 0 if the operation changed something, 1 if not. A failure ends the program.
operation() {
  case $spared in *" $1 "*)
    case $changed in *" $1 "*) return 0 ;; esac
    return 1
    ;;
  esac
  detail='' state=''
  now
  event start "$1" "$now"
  "check_$1" >"$work/check" 2>&1
  status=$?
  if [ "$status" -eq 0 ]; then
    case $together in *" $1 "*) state=changed detail=${detail:-"together with another one"} ;; esac
    finish "$1" "${state:-ok}" 0
    case $changed in *" $1 "*) return 0 ;; esac
    [ "$state" = changed ]
    return
  fi
  if [ "$status" -ne 1 ]; then
    cat "$work/check"
    finish "$1" failed "$status"
    end failed
  fi
  if [ "$mode" = check ]; then
    finish "$1" changed 0
    return 0
  fi
  : >"$work/detail"
  if ! install_together "$1"; then
    (
      set -e
      "apply_$1"
    ) 2>&1
    status=$?
    packages_known=''
    if [ "$status" -ne 0 ]; then
      finish "$1" failed "$status"
      end failed
    fi
  fi
  difference=$detail detail='' state=''
  "verify_$1" >"$work/check" 2>&1
  status=$?
  if [ "$status" -ne 0 ]; then
    cat "$work/check"
    printf 'It was applied without an error, but is still not as asked%s\n' "${detail:+: $detail}"
    finish "$1" failed "$status"
    end failed
  fi
  detail=''
  [ ! -s "$work/detail" ] || read -r detail <"$work/detail" || :
  detail=${detail:-$difference}
  finish "$1" changed 0
}

end() {
  rm -f "$flags/.${work##*/}"
  rmdir "$flags" 2>/dev/null || : # nothing is due any more
  event end "$1"
  exit 0
}

# A handler's flag is set when something notifies it, and taken away when it has run.
notify() {
  [ "$mode" = check ] || : >"$flags/$1"
  eval "due_$1=1"
}

is_due() {
  eval "[ -n \"\${due_$1-}\" ]" || [ -e "$flags/$1" ]
}

done_with() {
  eval "due_$1="
  rm -f "$flags/$1"
}

# --- packages ---------------------------------------------------------------------------------------------------------

# Packages of operations that follow one another are installed by one call. If that fails, each is tried alone, so that the right one
# is blamed. after_N: the operations that follow N and could go with it; spec_N: its package, as install_packages takes it.
install_together() {
  eval "_after=\${after_$1-} _specs=\${spec_$1-} _options=\${options_$1-}"
  [ -n "$_after" ] || return 1
  _members='' _detail=$detail
  for _member in $_after; do
    "check_$_member" >/dev/null 2>&1
    [ $? -ne 1 ] || eval "_members=\"\$_members \$_member\" _specs=\"\$_specs \$spec_$_member\""
  done
  detail=$_detail
  [ -n "$_members" ] || return 1
  # shellcheck disable=SC2086 # words by construction
  (install_packages $_options $_specs) 2>&1 || {
    packages_known=''
    return 1
  }
  packages_known='' together="$together$_members "
  # The newest version may be none that was asked for; the operation's own way of installing says so.
  "check_$1" >/dev/null 2>&1
  _status=$?
  detail=$_detail
  return $_status
}

# --- units ------------------------------------------------------------------------------------------------------------

# systemd reads anew what operations have written for it: once for all of them.
reload_units() {
  [ -e "$flags/units" ] || return 0
  systemctl daemon-reload && rm -f "$flags/units"
}

# --- files ------------------------------------------------------------------------------------------------------------

# attributes PATH MODE OWNER GROUP: does it have them? Empty ones are not looked at.
attributes() {
  # shellcheck disable=SC2046
  set -- "$@" $(stat -c '%a %U %G %u %g' -- "$1")
  [ -z "$2" ] || [ "$((0$2))" -eq "$((0$5))" ] || { detail="mode is $5"; return 1; }
  [ -z "$3" ] || [ "$3" = "$6" ] || [ "$3" = "$8" ] || { detail="owner is $6"; return 1; }
  [ -z "$4" ] || [ "$4" = "$7" ] || [ "$4" = "$9" ] || { detail="group is $7"; return 1; }
}

# set_attributes PATH MODE OWNER GROUP
set_attributes() {
  # What beside has made is root's already, unless the directory gives its group to what is in it.
  [ -z "$3$4" ] || { [ "$1$3$4" = "${new-}rootroot" ] && [ ! -g "$_folder" ]; } || chown -h -- "$3${4:+:$4}" "$1"
  # After chown, which takes away setuid and setgid.
  [ -z "$2" ] || chmod -- "$2" "$1"
}

# beside PATH: makes the directory of a file if need be, and an empty temporary file in it; its name is $new.
beside() {
  case $1 in */*) _folder=${1%/*} ;; *) _folder=. ;; esac
  _folder=${_folder:-/}
  [ -d "$_folder" ] || mkdir -p -- "$_folder"
  [ ! -d "$1" ] || [ -L "$1" ] || die "$1 is a directory"
  # A name that nobody can guess, and a file that was not there: as mktemp does it, but without a process.
  _temporary=$((${_temporary:-0} + 1))
  _unguessable=${work##*/}
  new=$_folder/.goldenami.${_unguessable##*.}.$_temporary
  umask 077
  set -C
  : >"$new"
  set +C
  umask 022
  trap 'rm -f -- "$new"' EXIT
}

# replace PATH: moves $new to its place, in one step.
replace() {
  mv -fT -- "$new" "$1"
  trap - EXIT
  ! command -v restorecon >/dev/null || restorecon "$1" || :
}

# fetch URL FILE: whatever is there.
fetch() {
  if [ "${1#file:///}" != "$1" ]; then
    cat -- "${1#file://}" >"$2"
  elif command -v curl >/dev/null; then
    curl -fsSL --retry 3 --connect-timeout 30 -o "$2" -- "$1"
  elif command -v wget >/dev/null; then
    wget -nv --tries=3 --timeout=60 -O "$2" -- "$1"
  elif [ -x /usr/lib/apt/apt-helper ]; then
    /usr/lib/apt/apt-helper -o Acquire::Retries=3 download-file "$1" "$2"
  else
    die "this host has neither curl, nor wget, nor apt-helper to download with"
  fi || die "downloading $1 failed"
}

# download URL SHA256 FILE: FILE has these contents, or this fails.
download() {
  fetch "$1" "$3"
  _sum=$(sha256sum -- "$3")
  _sum=${_sum%% *}
  [ "${_sum#\\}" = "$2" ] || die "$1 has the SHA-256 ${_sum#\\}, and not $2 as the recipe says"
}
