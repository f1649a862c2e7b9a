"""Mounts the devices of /etc/fstab when a guest boots.

The generator of systemd leaves them out where /sys is read-only, as in containers. Before the init of a guest runs, it
gets another generator (systemd.generator(7)) in its /run, which is no part of its root volume. That one makes a
service that mounts them. As with systemd, a boot fails without a device, unless its entry has ``nofail``.
"""

from __future__ import annotations

import os
from pathlib import Path

from goldenami_sandbox.node.namespaces import in_guest

_GENERATOR = """\
#!/bin/sh
unit=goldenami-fstab.service
awk '$1 ~ /^(UUID=|LABEL=|\\/dev\\/)/ && $2 ~ /^\\/./ && ("," $4 ",") !~ /,noauto,/ {
  print "ExecStart=/bin/mkdir -p " $2
  print "ExecStart=" (("," $4 ",") ~ /,nofail,/ ? "-" : "") "/bin/mount " $2
}' /etc/fstab >"$1/.mounts"
if [ -s "$1/.mounts" ]; then
  { printf '[Unit]\\nDefaultDependencies=no\\nAfter=local-fs-pre.target systemd-remount-fs.service\\n'
    printf 'Before=local-fs.target\\n[Service]\\nType=oneshot\\nRemainAfterExit=yes\\n'
    cat "$1/.mounts"; } >"$1/$unit"
  mkdir -p "$1/local-fs.target.requires"
  ln -sf "../$unit" "$1/local-fs.target.requires/$unit"
fi
rm -f "$1/.mounts"
"""
_FOLDERS = ("/run/systemd", "/run/systemd/system-generators")


def give_generator(process: int, root: int) -> None:
    """Write the generator. ``process``: one that sees the guest's /run, before its init runs. ``root``: the number of
    the guest's root on this machine."""

    def write() -> None:
        for folder in map(Path, _FOLDERS):
            if not folder.is_dir():
                folder.mkdir()
                folder.chmod(0o755)
                os.chown(folder, root, root)
        path = Path(_FOLDERS[-1], "goldenami-fstab")
        path.write_text(_GENERATOR)
        path.chmod(0o755)
        os.chown(path, root, root)

    in_guest(process, write)
