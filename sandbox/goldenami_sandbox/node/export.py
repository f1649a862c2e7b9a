"""Writes the contents of an image for scanners, auditors and users."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from goldenami_sandbox.errors import SandboxError, UsageError
from goldenami_sandbox.node import blocks
from goldenami_sandbox.node.api import BLOCK_SIZE, ExportForm
from goldenami_sandbox.node.command import last_line, run
from goldenami_sandbox.node.namespaces import RUN
from goldenami_sandbox.node.volumes import mount_image, unmount_image


def write(image: Path, output: Path, form: ExportForm) -> None:
    """Write the contents. ``image``: a scratch file with the filesystem; mounting replays its journal, so
    it is a copy. Only root can read the output, since an image has secrets, and setuid programs of anybody.
    """
    if output.exists() and not (form == "dir" and output.is_dir() and not any(output.iterdir())):
        raise UsageError(f"{output} exists already")
    if form == "raw":
        _raw(image, output)
        return
    RUN.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="export-", dir=RUN))
    mount_image(image, directory)
    created = not output.exists()
    tree = ["--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--exclude=./lost+found"]
    try:
        if form == "tar":
            os.close(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            run("tar", "--create", "--file", str(output), "--directory", str(directory), *tree, ".")
        else:
            output.mkdir(0o700, exist_ok=True)
            _copy_tree(directory, output, tree)
    except SandboxError:
        if created:
            shutil.rmtree(output, ignore_errors=True) if form == "dir" else output.unlink(missing_ok=True)
        raise
    finally:
        unmount_image(directory)


def _copy_tree(source: Path, target: Path, options: list[str]) -> None:
    reader = ["tar", "--create", "--directory", str(source), *options, "."]
    writer = ["tar", "--extract", "--preserve-permissions", "--no-overwrite-dir", "--directory", str(target), *options]
    with subprocess.Popen(reader, stdout=subprocess.PIPE) as pipe:
        done = subprocess.run(writer, stdin=pipe.stdout, capture_output=True, text=True, errors="replace", check=False)
    if pipe.returncode or done.returncode:
        raise SandboxError(f"the contents could not be copied to {target}: {last_line(done.stderr) or 'tar failed'}")


def _raw(image: Path, output: Path) -> None:
    with image.open("rb") as old, output.open("xb") as new:
        os.fchmod(new.fileno(), 0o600)
        size = os.fstat(old.fileno()).st_size
        new.truncate(size)
        for i in blocks.allocated(old.fileno()):
            data = blocks.read(old.fileno(), i)
            if data != blocks.ZERO:
                blocks.write(new.fileno(), i, data[: min(BLOCK_SIZE, size - i * BLOCK_SIZE)])
