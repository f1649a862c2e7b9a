# Functions that stop what writes to the disks of a host, and freeze their file systems, the root last: "stop" and "freeze", which
# always end with 0. $work/cannot exists if the host cannot be made still, and says why. Then nothing is frozen; but services were
# stopped, swap is off, and file systems that cannot be frozen may be unmounted or read-only, until the next boot.
# $work must be in memory: nothing can be written to a disk afterwards. $frozen_mark exists only while the host is frozen.
frozen_mark=@mark given=''

# The file is made even if there is no room for its text. Not every caller shares the variable: some are in a pipe.
cannot() {
  given=up
  [ -e "$work/cannot" ] || printf '%s' "$*" | tr -s '\n\t ' ' ' >"$work/cannot"
}

possible() {
  [ -z "$given" ] && [ ! -e "$work/cannot" ]
}

# Is not empty if a session of Amazon's agent is open, which may be what carries this connection.
by_agent=$(grep -lsxF ssm-session-wor /proc/[0-9]*/comm | head -n 1)

# kept UNIT: the units that this session needs, that write to memory only, or that end the host after its lifetime.
kept() {
  case $1 in
  systemd-journal* | systemd-udev* | systemd-logind* | systemd-network* | systemd-resolve* | systemd-userdb*) ;;
  systemd-*.socket | systemd-*.path | dbus* | ssh* | user@*.service | session-*.scope | init.scope | goldenami-*) ;;
  NetworkManager* | network* | ifup* | dhc* | wpa_supplicant* | firewalld* | wg-quick* | openvpn* | tailscaled*) ;;
  *amazon-ssm-agent*) [ -n "$by_agent" ] ;;
  *) return 1 ;;
  esac
}

stop() {
  # One transaction, so that systemd keeps its order: a program stops before the database that it uses. A unit that is
  # started only after the others, and that conflicts with them, is one.
  units='' others=''
  for unit in $(systemctl list-units --no-legend --no-pager --plain --type=service,socket,timer,path \
    --state=running,listening,waiting,activating,reloading | awk '{ print $1 }') $(ended); do
    case $unit in *\\*) ! kept "$unit" && others="$others $unit" ;; *) kept "$unit" || units="$units $unit" ;; esac
  done
  if [ -n "$units" ]; then
    timeout @patience systemd-run --quiet --unit=goldenami-still --property=Type=oneshot --property=DefaultDependencies=no \
      "--property=Conflicts=$units" "--property=After=$units" true 2>"$work/said" || others="$units $others"
  fi
  # shellcheck disable=SC2086 # words by construction
  [ -z "$others" ] || timeout @patience systemctl stop -- $others 2>"$work/said" ||
    case $? in 124) cannot "services did not stop within @patience s: $(going)" ;; esac
  stopped=$(echo $units $others | wc -w)
  # Programs of no service that have a file of a disk open for writing. What they do not write within five seconds is lost,
  # as when the host is shut down. What this program still reads beside is waited for before the freezing, and must not be
  # ended: the database of a package manager is open for writing also for those who only read.
  session_of $$
  own=$of
  session=' ' process=$$
  while [ "${process:-0}" -gt 1 ]; do
    session="$session$process "
    process=$(awk '$1 == "PPid:" { print $2 }' "/proc/$process/status" 2>/dev/null) || :
  done
  left=50
  while writers >"$work/writers" && [ "$left" -gt 0 ]; do
    while read -r process; do
      kill -s TERM "$process" 2>/dev/null || :
    done <"$work/writers"
    sleep 0.1
    left=$((left - 1))
  done
  note "$stopped units"
}

# Prints the services whose program has ended (RemainAfterExit=yes), but that have processes, or a program for their end.
# Those of the distribution for an end without processes are for its own state, such as a firewall, which a boot makes again.
ended() {
  units=$(systemctl list-units --no-legend --no-pager --plain --type=service --state=exited | awk '{ print $1 }')
  # shellcheck disable=SC2086
  [ -z "$units" ] || systemctl show --property=Id,ControlGroup,ExecStop,FragmentPath -- $units | {
    cat
    echo
  } | while IFS= read -r line; do
    case $line in
    Id=*) unit=${line#Id=} ;;
    ControlGroup=?*) group=${line#ControlGroup=} ;;
    ExecStop=?*) end=end ;;
    FragmentPath=/usr/lib/* | FragmentPath=/lib/*) packaged=yes ;;
    '')
      if [ "$end$packaged" = end ] || has_processes "$group"; then printf '%s\n' "$unit"; fi
      unit='' group='' end='' packaged=''
      ;;
    esac
  done
}

# has_processes CGROUP: also in its subgroups.
has_processes() {
  [ -n "$1" ] && find "/sys/fs/cgroup$1" "/sys/fs/cgroup/systemd$1" -name cgroup.procs -exec cat {} + 2>/dev/null | grep -q .
}

# Prints the services that are being stopped.
going() {
  systemctl list-units --no-legend --no-pager --plain --state=deactivating | awk '{ print $1 }' | head -n 3 | tr '\n' ' '
}

# session_of PID: sets $of to the session of a process. In the file, its name comes before, which may have spaces.
session_of() {
  of=''
  read -r of 2>/dev/null <"/proc/$1/stat" || :
  of=${of##*) }
  of=${of#* * * }
  of=${of%% *}
}

# Prints the processes of other sessions that have a file of a disk open for writing. Returns 1 if there are none.
writers() {
  find /proc/[0-9]*/fd -mindepth 1 -maxdepth 1 -type l -perm -200 -lname '/*' ! -lname '/dev/*' ! -lname '/proc/*' \
    ! -lname '/sys/*' ! -lname '/run/*' ! -lname '/memfd:*' ! -lname '/SYSV*' 2>/dev/null |
    cut -d / -f 3 | sort -u | while read -r process; do
    group=$(awk -F : '($1 == 0 || $2 == "name=systemd") && $3 != "/" { print $3; exit }' "/proc/$process/cgroup" 2>/dev/null) || continue
    read -r name <"/proc/$process/comm" || continue
    case $session$name in *" $process "* | *" "sshd* | *" sudo" | *" ssm-session-wor")
      cannot "$name of this session writes to a disk"
      continue
      ;;
    esac
    session_of "$process"
    [ -z "$of" ] || [ "$of" != "$own" ] || continue
    case $group in */session-*.scope | */ssh*.service | '') ;; *) ! kept "${group##*/}" || continue ;; esac
    [ "$process" -eq 1 ] || echo "$process"
  done | grep .
}

# What is released, so that it cannot be written to, is mounted again at the next boot.
freeze() {
  possible || return 0
  case $(stat -f -c %T "$work") in tmpfs | ramfs) ;; *) cannot "$work is not in memory"; return ;; esac
  command -v fsfreeze >/dev/null || { cannot "the host has no fsfreeze (util-linux)"; return; }
  # Whatever shuts a frozen host down, such as EC2, waits for nothing: this unit stops first, and powers it off.
  systemd-run --quiet --unit=goldenami-frozen --property=Type=oneshot --property=RemainAfterExit=yes \
    "--property=ExecStop=/bin/sh -c '[ ! -e $frozen_mark ] || echo o >/proc/sysrq-trigger'" true 2>/dev/null &
  unit=$!
  awk '@listed' /proc/self/mountinfo >"$work/mounts"
  timeout @patience swapoff -a 2>/dev/null || : # it has nothing that is read at the next boot
  while read -r what mount; do
    [ "$what" = release ] || continue
    mount=$(printf %b "$mount")
    timeout @limit umount "$mount" 2>/dev/null || timeout @limit mount -o remount,ro "$mount" 2>"$work/said" ||
      cannot "$mount cannot be unmounted or made read-only: $(cat "$work/said")"
  done <"$work/mounts"
  left=$(awk '@listed' /proc/self/mountinfo | awk '$1 == "release" { print $2; exit }')
  [ -z "$left" ] || cannot "a file system that cannot be frozen is still mounted at $left" # it was mounted twice
  elsewhere=$({
    cat /proc/self/mountinfo
    echo
    cat /proc/[0-9]*/mountinfo 2>/dev/null
  } | awk '@elsewhere' | head -n 1)
  [ -z "$elsewhere" ] || cannot "a file system is mounted only in part or for other processes, at $elsewhere"
  timeout @limit sync || cannot "its unwritten data was not on the disks within @limit s"
  mounts=$(awk '$1 == "freeze" { print $2 }' "$work/mounts")
  [ -n "$mounts" ] || cannot "no file system here can be frozen"
  wait "$unit" || :
  possible || return 0
  # Freezing can wait for a file system that is frozen already, such as that of a loop device. This ends it, whatever happens.
  # shellcheck disable=SC2086 # mountinfo escapes spaces
  (
    sleep @limit
    echo "it took longer than @limit s" >"$work/cannot"
    thaw $mounts
  ) >/dev/null 2>&1 &
  watchdog=$!
  still=''
  for mount in $mounts; do
    fsfreeze --freeze "$(printf %b "$mount")" 2>"$work/said" || { cannot "$(cat "$work/said")"; break; }
    still="$mount $still"
  done
  kill "$watchdog" 2>/dev/null || cannot "it took longer than @limit s"
  # An automount brings back what was released, at the first access.
  left=$(awk '@listed' /proc/self/mountinfo |
    awk 'NR == FNR { known[$0]; next } $1 == "release" || !($0 in known) { print $2; exit }' "$work/mounts" -)
  [ -z "$left" ] || cannot "a file system was mounted meanwhile, at $left"
  # shellcheck disable=SC2086
  if possible && true >"$frozen_mark"; then note $mounts; else
    cannot "$frozen_mark cannot be written"
    thaw $still
  fi
}

thaw() {
  for mount in "$@"; do
    fsfreeze --unfreeze "$(printf %b "$mount")" 2>/dev/null || :
  done
}
