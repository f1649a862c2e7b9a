# Runs one scan in an instance, as root: sh inside.sh lynis | scap PROFILE. The report goes to stdout.
#
# The kernel's own settings (kernel.*, fs.*, ...) belong to the machine outside and cannot be set from here, so what an image asks for
# would not be seen. Plain files with Debian's defaults are laid over them, and the image's own systemd-sysctl, which applies
# sysctl.d at boot, writes into those. Settings of the network are the instance's own, and stay.
set -eu
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C
tools=/opt/scan over=/run/scan-sysctl
umask 022

defaults() {
  cat <<_
dev.tty.ldisc_autoload 1
fs.protected_fifos 1
fs.protected_hardlinks 1
fs.protected_regular 2
fs.protected_symlinks 1
fs.suid_dumpable 0
kernel.core_pattern core
kernel.core_uses_pid 0
kernel.ctrl-alt-del 0
kernel.dmesg_restrict 1
kernel.kexec_load_disabled 0
kernel.kptr_restrict 0
kernel.modules_disabled 0
kernel.perf_event_paranoid 3
kernel.randomize_va_space 2
kernel.sysrq 438
kernel.unprivileged_bpf_disabled 2
kernel.yama.ptrace_scope 0
net.core.bpf_jit_harden 0
vm.mmap_min_addr 65536
vm.unprivileged_userfaultfd 0
_
}

# With whole directories, keys that the kernel outside lacks are there too; Lynis, which reads everything, gets single files.
lay_over() {
  [ ! -e "$over/$1" ] || return 0
  mkdir -p "$over"
  if [ "$1" = directories ]; then
    for top in kernel fs vm dev; do
      (cd /proc/sys && find "$top" -type f ! -path '*binfmt_misc*') | while read -r file; do
        mkdir -p "$over/$(dirname "$file")"
        cat "/proc/sys/$file" >"$over/$file" 2>/dev/null || :
      done
    done
  fi
  defaults | while read -r name value; do
    file=$(printf '%s' "$name" | tr . /)
    mkdir -p "$over/$(dirname "$file")"
    printf '%s\n' "$value" >"$over/$file"
    case $1:$file in directories:net/* | files:*)
      [ ! -e "/proc/sys/$file" ] || mount --bind "$over/$file" "/proc/sys/$file" ;;
    esac
  done
  if [ "$1" = directories ]; then
    for top in kernel fs vm dev; do mount --bind "$over/$top" "/proc/sys/$top"; done
  fi
  : >"$over/$1"
  for program in /usr/lib/systemd/systemd-sysctl /lib/systemd/systemd-sysctl; do
    [ ! -x "$program" ] || { "$program" >/dev/null 2>&1 || :; break; }
  done
}

case $1 in
lynis)
  lay_over files
  mkdir -p "$tools/run"
  cp -r "$tools/usr/share/lynis/include" "$tools/usr/share/lynis/db" "$tools/etc/lynis/default.prf" "$tools/usr/sbin/lynis" "$tools/run"
  mkdir -p "$tools/run/plugins"
  cd "$tools/run"
  sh ./lynis audit system --quick --no-colors --quiet --profile ./default.prf --logfile ./log --report-file ./report >/dev/null 2>&1 || :
  cat report
  ;;
scap)
  if ! command -v oscap >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install openscap-scanner >/dev/null
  fi
  lay_over directories
  # What is looked at is the image. Who may use sudo without a password is written for each instance at its launch, as cloud-init does.
  rm -f /etc/sudoers.d/90-cloud-init-users
  cd "$tools"
  content=$(ls ssg-debian"$(. /etc/os-release && echo "${VERSION_ID%%.*}")"-ds.xml)
  # Status 2 says that some rules failed, which is what the report is for.
  nice oscap xccdf eval --profile "xccdf_org.ssgproject.content_profile_$2" --results results.xml "$content" >/dev/null 2>&1 || [ $? -eq 2 ]
  cat results.xml
  ;;
esac
