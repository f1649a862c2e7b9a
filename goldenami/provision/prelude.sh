# The start of every program. It needs POSIX sh and coreutils, and no Python. Operations can need more programs.
# Arguments: the working directory, the word that marks event lines, "apply" or "check", and the first operation to run. If
# the host lost an earlier run: the operations that changed something then, and those that must not run again. The last one is
# "without-systemd" for an instance that is known to have none.
work=$1 mark=$2 mode=$3 first=$4 changed=$5 spared=$6 without=${7-}

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C.UTF-8
export PATH LC_ALL
unset LANGUAGE IFS
umask 022
cd /
exec </dev/null 3>&1

flags=/run/goldenami # flags of due handlers: outside the working directory, so that they survive an interrupted run
packages_known='' besides='' together=' ' detail='' state=''
[ -d "$flags" ] || mkdir -m 0700 "$flags"
: >"$flags/.${work##*/}" # exists while this program runs, so that the end of another program does not remove the directory
: >"$work/detail"

# --- events -----------------------------------------------------------------------------------------------------------

# An event is a separate line. It begins with a line end, because earlier output may end without one. The reader removes it.
# Without its events the program is of no use: it ends if the log cannot be written.
event() {
  printf '\n%s %s\n' "$mark" "$*" || exit 98
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

# For checks: there is nothing to do, for this reason. Use as: skip "reason"; return
skip() {
  state=skipped detail=$1
}

# For applies, which run in subshells: sets the detail of the change.
note() {
  printf '%s' "$*" | tr '\n' ' ' >"$work/detail"
}

# For checks, whose output is shown only if they fail: shows a line now, as a sign of life.
say() {
  printf '%s\n' "$*" >&3
}

die() {
  printf '%s\n' "$*"
  exit 1
}

# The boot id shows whether the host has rebooted.
read -r boot </proc/sys/kernel/random/boot_id
event begin "$boot"

# Without systemd, an operation that calls it is not executed, which is its result. $work/unbooted: systemctl has said so.
[ -z "$without" ] || systemctl() {
  _called=0
  command systemctl "$@" 2>"$work/said" || _called=$?
  cat "$work/said" >&2
  ! grep -q 'not been booted with systemd' "$work/said" || : >"$work/unbooted"
  return $_called
}

# not_executed N: ends operation N if systemctl has said that there is no systemd.
not_executed() {
  [ -n "$without" ] && [ -e "$work/unbooted" ] || return 1
  rm -f "$work/unbooted"
  detail='not executed: this instance has no systemd'
  finish "$1" skipped 0
}

# --- the cycle of one operation ---------------------------------------------------------------------------------------

# Ends with 0 if the operation changed something, 1 if not. A failure ends the program.
operation() {
  case $spared in *" $1 "*)
    case $changed in *" $1 "*) return 0 ;; esac
    return 1
    ;;
  esac
  detail='' state=''
  [ -z "$without" ] || rm -f "$work/unbooted" # of an operation that was done all the same
  now
  event start "$1" "$now"
  "check_$1" >"$work/check" 2>&1
  status=$?
  if [ -n "$without" ] && [ -e "$work/unbooted" ]; then
    # What it can do without systemd is done: a unit is enabled for a later boot.
    if [ "$mode" != check ]; then
      (
        set -e
        "apply_$1"
      ) 2>&1 3>&-
    fi
    not_executed "$1"
    return 1
  fi
  if [ "$status" -eq 0 ]; then
    case $together in *" $1 "*) state=changed detail=${detail:-"installed together with another package"} ;; esac
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
    eval "left=\${retries_$1:-0}"
    pause=5
    while :; do
      (
        set -e
        "apply_$1"
      ) 2>&1 3>&-
      status=$?
      packages_known=''
      [ "$status" -ne 0 ] && [ "$left" -gt 0 ] || break
      printf 'It failed with exit status %s, and is tried again in %s s\n' "$status" "$pause"
      sleep "$pause"
      left=$((left - 1)) pause=$((pause < 60 ? pause * 2 : 60))
      [ "$pause" -le 60 ] || pause=60
      : >"$work/detail"
    done
    if [ "$status" -ne 0 ]; then
      if not_executed "$1"; then return 1; fi
      out_of_memory
      finish "$1" failed "$status"
      end failed
    fi
  fi
  difference=$detail detail='' state='' given_up=''
  "verify_$1" >"$work/check" 2>&1
  status=$?
  if [ "$status" -ne 0 ]; then
    if not_executed "$1"; then return 1; fi
    cat "$work/check"
    printf 'The operation ended without an error, but its check still fails%s\n' "${detail:+: $detail}"
    finish "$1" failed "$status"
    end failed
  fi
  # A verify sets it: the apply has found that what is optional is not possible here, for this reason.
  if [ -n "$given_up" ]; then
    detail=$given_up
    finish "$1" skipped 0
    return 1
  fi
  detail=''
  [ ! -s "$work/detail" ] || read -r detail <"$work/detail" || :
  detail=${detail:-$difference}
  finish "$1" changed 0
}

# Sets the detail of a failure if the kernel has ended processes for lack of memory since the program began.
out_of_memory() {
  [ -r "$work/oom" ] || return 0
  read -r _killed <"$work/oom" || :
  _killed=$(($(sed -n 's/^oom_kill //p' /proc/vmstat) - ${_killed:-0}))
  [ "$_killed" -le 0 ] || detail="out of memory: $_killed"
}

# recheck WHEN N...: checks again that operations hold, and reports those that do not. It changes nothing.
recheck() {
  when=$1 packages_known=''
  shift
  for rechecked in "$@"; do
    detail='' state=''
    "verify_$rechecked" >"$work/check" 2>&1 || event drift "$when" "$rechecked" "${detail:-$(tail -n 1 "$work/check")}"
  done
}

# logind waits for programs that delay a reboot, before systemd begins it.
preparing_for_shutdown() {
  busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager PreparingForShutdown 2>/dev/null
}

# going_down N: ends the program if operation N has asked for a reboot, so that nothing more is done on a host that goes down.
going_down() {
  command -v systemctl >/dev/null || return 0
  _looks=0
  while [ ! -e /run/systemd/shutdown/scheduled ]; do
    case $(systemctl is-system-running 2>/dev/null; preparing_for_shutdown) in
      *stopping* | *'b true'*) break ;;
      *unknown*) [ "$_looks" -lt 5 ] || return 0 ;; # systemd does not answer, as in the last seconds of a shutdown
      *) return 0 ;;
    esac
    _looks=$((_looks + 1))
    sleep 1
  done
  event going "$1"
  end ok
}

end() {
  rm -f "$flags/.${work##*/}"
  rmdir "$flags" 2>/dev/null || : # no handler is due
  event end "$1"
  exit 0
}

# The flag of a handler is set when an operation notifies it, and removed after it has run.
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

# --- facts that are read beside the operations -----------------------------------------------------------------------------

# reads NAME...: the last job in the background reads these facts.
reads() {
  for _name in "$@"; do
    besides="$besides $!:$_name"
  done
}

# collect [NAME...]: waits for these facts, or for all, and prints them.
collect() {
  _later=''
  for _one in $besides; do
    _name=${_one#*:}
    case " $* " in *" $_name "* | '  ') ;; *) _later="$_later $_one" && continue ;; esac
    event fact "$_name"
    wait "${_one%%:*}"
    cat "$work/fact.$_name"
    _status=1
    [ ! -s "$work/read.$_name" ] || read -r _status <"$work/read.$_name"
    event read "$_name" "$_status"
  done
  besides=$_later
}

# --- packages ---------------------------------------------------------------------------------------------------------

# One call installs the packages of consecutive operations. If it fails, each operation runs alone, so that the error belongs to the
# right one. after_N: the operations after N that the same call can install; spec_N: the package of N for install_packages.
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
  (install_packages $_options $_specs) 2>&1 3>&- || {
    packages_known=''
    return 1
  }
  packages_known='' together="$together$_members "
  # The newest version may not match. Then the apply of the operation runs and reports that.
  "check_$1" >/dev/null 2>&1
  _status=$?
  detail=$_detail
  return $_status
}

# --- units ------------------------------------------------------------------------------------------------------------

# systemd loads the files that operations have written: once for all of them.
reload_units() {
  [ -e "$flags/units" ] || return 0
  systemctl daemon-reload && rm -f "$flags/units"
}

# --- files ------------------------------------------------------------------------------------------------------------

# attributes PATH MODE OWNER GROUP: returns 0 if the file has them. Empty values are not compared.
attributes() {
  # shellcheck disable=SC2046
  set -- "$@" $(stat -c '%a %U %G %u %g' -- "$1")
  [ -z "$2" ] || [ "$((0$2))" -eq "$((0$5))" ] || { detail="mode is $5"; return 1; }
  [ -z "$3" ] || [ "$3" = "$6" ] || [ "$3" = "$8" ] || { detail="owner is $6"; return 1; }
  [ -z "$4" ] || [ "$4" = "$7" ] || [ "$4" = "$9" ] || { detail="group is $7"; return 1; }
}

# set_attributes PATH MODE OWNER GROUP
set_attributes() {
  # A file that `beside` created belongs to root already, unless the directory has the setgid bit.
  [ -z "$3$4" ] || { [ "$1$3$4" = "${new-}rootroot" ] && [ ! -g "$_folder" ]; } || chown -h -- "$3${4:+:$4}" "$1"
  # After chown, because chown removes setuid and setgid.
  [ -z "$2" ] || chmod -- "$2" "$1"
}

# beside PATH: creates the directory of a file if necessary, and an empty temporary file in it, named $new.
beside() {
  case $1 in */*) _folder=${1%/*} ;; *) _folder=. ;; esac
  _folder=${_folder:-/}
  [ -d "$_folder" ] || mkdir -p -- "$_folder"
  [ ! -d "$1" ] || [ -L "$1" ] || die "$1 is a directory"
  # A random name, and a new file (set -C), like mktemp, but without starting a process.
  _temporary=$((${_temporary:-0} + 1))
  _random=${work##*/}
  new=$_folder/.goldenami.${_random##*.}.$_temporary
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

# mirrored URL: sets $mirrored to the URL to use instead. A build with mirrors defines it again.
mirrored() {
  mirrored=$1
}

# fetch URL FILE: downloads without verification.
fetch() {
  mirrored "$1"
  set -- "$mirrored" "$2"
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

# download URL SHA256 FILE: fails if the data has another checksum.
download() {
  fetch "$1" "$3"
  _sum=$(sha256sum -- "$3")
  _sum=${_sum%% *}
  [ "${_sum#\\}" = "$2" ] || die "$1 has the SHA-256 ${_sum#\\}, expected $2 as in the recipe"
}
