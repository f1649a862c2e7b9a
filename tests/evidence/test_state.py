"""The state of an image: read from a host, kept, and compared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from goldenami import provision
from goldenami.cli.main import main
from goldenami.errors import CatalogError
from goldenami.evidence import state
from goldenami.evidence.state import ChangedFile, File, State
from goldenami.release.catalog import Catalog
from tests.release.conftest import make_manifest

FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:999:999::/srv/app:/usr/sbin/nologin\nbroken\n",
    "etc/group": "adm:x:4:root\napp:x:999:\n",
    "etc/sysctl.d/10-app.conf": "# a = 1\n-kernel.panic = 3\nkernel/hostname=x\nnet.ipv4.conf.*.rp_filter = 1\n",
    "etc/nothing/with spaces": "1\n",
    "tmp/left-out": "",
    "usr/bin/app": "#!/bin/sh\n",
    "etc/secret": "4711\n",
}


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("host")
    for name, text in FILES.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
        (made / name).chmod(0o644)
    (made / "usr/bin/app").chmod(0o755)
    (made / "etc/secret").chmod(0o640)
    (made / "usr/bin/link").symlink_to("app")
    return made


def read(top: Path, code: str, left: Sequence[str] = ("walk",)) -> str:
    """What the program prints. It works in a directory beside the host, and leaves these files there."""
    with tempfile.TemporaryDirectory(dir=top.parent) as work:
        done = subprocess.run(["sh", "-euc", f"work={work}\n{code}"], check=True, stdout=subprocess.PIPE)
        assert [path.name for path in Path(work).iterdir()] == [*left]
        return done.stdout.decode()


@pytest.fixture(scope="module")
def found(top: Path) -> State:
    text = read(top, provision.state_below(str(top)).text)
    parsed = state.parse(text, top=str(top))
    assert parsed is not None
    return parsed


def test_a_host_is_read(found: State) -> None:
    owner = found.files["/etc"].owner
    app = found.files["/usr/bin/app"]
    assert (app.kind, app.mode, app.owner, app.size) == ("f", "755", owner, 10)
    assert app.digest == "a8076d3d28d21e02"  # of sha256sum: what a second program says
    secret = found.files["/etc/secret"]
    assert (secret.mode, secret.size, secret.digest) == ("640", 5, ""), "it could be guessed from its digest"
    assert found.files["/usr/bin/link"] == replace(found.files["/usr/bin/link"], kind="l", target="app", digest="")
    assert "/etc/nothing/with spaces" in found.files
    assert not [path for path in found.files if "left-out" in path]
    assert found.users == {"root": "0 0 /root /bin/sh", "app": "999 999 /srv/app /usr/sbin/nologin"}
    assert found.groups == {"adm": "4 root", "app": "999 "}
    assert found.sysctls.keys() == {"kernel.panic", "kernel.hostname"}
    assert found.complete
    assert found.used > 0


OPENSSL = """#!/bin/sh
shift 3
for file; do [ "$file" != /dev/null ] && echo {other} "*$file" || {known}; done
"""


@pytest.mark.parametrize(
    ("known", "digest"),
    [("sha256sum -b /dev/null", "f" * 16), ("echo 0 */dev/null", "2c8b08da5ce60398"), ("exit 127", "2c8b08da5ce60398")],
    ids=["right", "wrong", "none"],
)
@pytest.mark.parametrize("by", ["state", "reading ahead"])
def test_openssl_makes_the_digests_if_its_answer_for_a_known_file_is_right(
    tmp_path: Path, by: str, known: str, digest: str
) -> None:
    host, ahead, program = tmp_path / "host", tmp_path / "ahead", tmp_path / "bin/openssl"
    host.mkdir()
    (host / "one").write_text("one\n")
    program.parent.mkdir()
    program.write_text(OPENSSL.format(other="f" * 64, known=known))
    program.chmod(0o755)
    path = f"PATH={program.parent}:$PATH\n"
    if by == "state":
        found = state.parse(read(host, path + provision.state_below(str(host)).text), top=str(host))
        assert found is not None
        assert (found.files["/one"].digest, found.complete) == (digest, True)
    else:
        read(host, path + provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait"), left=[])
        (made,) = ahead.glob("of.*")
        assert (made.read_text()[:16], made.read_text()[66:]) == (digest, f"{host}/one\n")


ESCAPED = ("with-x2d\\x2d.slice", "a\\nb", "a\\rb", "two\\\\", "\\", "return\r\\r and\\")


@pytest.mark.parametrize("by", ["openssl", "sha256sum"])
@pytest.mark.parametrize("is_ahead", [False, True])
def test_names_that_sha256sum_escapes_have_the_same_digests_with_and_without_openssl(
    tmp_path: Path, by: str, is_ahead: bool
) -> None:
    """A file of this kind is on every host with systemd: system-systemd\\x2dcryptsetup.slice."""
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    for name in ("plain", *ESCAPED):
        (host / name).write_text(f"{name}\n", newline="")
    path = "" if by == "openssl" else with_openssl(tmp_path, "exit 127")
    if is_ahead:
        read(host, path + provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait"), left=[])
        (ahead / "began").write_text(f"{time.time() + 3:.0f}\n")
        path += "timeout() { :; }\n"  # nothing is read again
    code = provision.state_below(str(host), str(ahead) if is_ahead else "").text
    found = state.parse(read(host, path + code), top=str(host))
    assert found is not None
    digests = {name[1:]: file.digest for name, file in found.files.items() if file.kind == "f"}
    assert digests == {name: hashlib.sha256(f"{name}\n".encode()).hexdigest()[:16] for name in ("plain", *ESCAPED)}


@pytest.mark.parametrize("is_ahead", [False, True])
def test_a_name_with_a_line_end_looks_like_no_other_file(tmp_path: Path, is_ahead: bool) -> None:
    """Whoever may make a folder could learn the digest of a file that only root may read."""
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    (host / "plain").write_text("plain\n")
    (host / "secret").write_text("secret\n")
    (host / "secret").chmod(0o600)
    forged = Path(f"{host}/folder\nf\t644\t0:0\t7\t\t{host}/secret")
    forged.parent.mkdir(parents=True)
    forged.touch()
    (host / "secret\r").touch()  # the carriage return is lost where lines are read
    (host / "link").symlink_to(f"there\t/other\nf\t644\t0:0\t7\t\t{host}/secret")
    code = provision.state_below(str(host)).text
    if is_ahead:
        read(host, provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait"), left=[])
        (made,) = ahead.glob("of.*")
        assert [line[66:] for line in made.read_text().splitlines()] == [f"{host}/plain"]
        (ahead / "began").write_text(f"{time.time() + 3:.0f}\n")
        code = provision.state_below(str(host), str(ahead)).text
    found = state.parse(read(host, code), top=str(host))
    assert found is not None
    assert not found.complete, "nobody can tell what is in them"
    kinds = {path: (file.kind, file.mode, file.digest) for path, file in found.files.items()}
    assert kinds.pop("/secret") == ("f", "600", "")
    assert kinds.pop("/plain")[2] == hashlib.sha256(b"plain\n").hexdigest()[:16]
    assert [kind for kind, _, _ in (kinds.pop("/?"), *kinds.values())] == ["?", "d"], "and the host's own folder"


def with_openssl(folder: Path, code: str) -> str:
    """Return code for a PATH with an openssl that runs this."""
    (folder / "bin").mkdir()
    (folder / "bin/openssl").write_text(f"#!/bin/sh\n{code}\n")
    (folder / "bin/openssl").chmod(0o755)
    return f"PATH={folder}/bin:$PATH\n"


@pytest.mark.parametrize("status", [1, 126, 200, 255])
@pytest.mark.parametrize("by", ["state", "reading ahead"])
def test_the_number_of_files_that_openssl_could_not_read_ends_nothing(tmp_path: Path, status: int, by: str) -> None:
    """Some versions end with it. Files may vanish after they were listed."""
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    for number in range(1500):  # for more calls than one
        (host / str(number)).write_text("one\n")
    real = shutil.which("openssl")
    assert real is not None
    path = with_openssl(tmp_path, f'{real} "$@"; [ $# -eq 4 ] || exit {status}')
    if by == "reading ahead":
        read(host, path + provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait"), left=[])
        assert sum(len(one.read_text().splitlines()) for one in ahead.glob("of.*")) == 1500
        return
    found = state.parse(read(host, path + provision.state_below(str(host)).text), top=str(host))
    assert found is not None
    assert found.complete
    assert {file.digest for file in found.files.values() if file.kind == "f"} == {"2c8b08da5ce60398"}


def test_an_openssl_that_is_ended_gives_no_digests_of_which_the_last_may_be_cut(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    for name in ("one", "one-and-more"):
        (host / name).write_text("one\n")
    known = 'echo "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 */dev/null"'
    path = with_openssl(tmp_path, f'[ $# -gt 4 ] || {{ {known}; exit; }}\nprintf "%064d *%s" 0 {host}/one\nkill -9 $$')
    found = state.parse(read(host, path + provision.state_below(str(host)).text), top=str(host))
    assert found is not None
    assert {file.digest for file in found.files.values()} == {""}
    assert not found.complete


def test_an_openssl_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    host = tmp_path / "host"
    host.mkdir()
    (host / "one").write_text("one\n")
    path = with_openssl(tmp_path, "trap '' TERM\nwhile :; do sleep 0.1; done")
    code = provision.state_below(str(host)).text
    assert code.count("timeout -k 1 10 ") == 1
    code = code.replace("timeout -k 1 10 ", "timeout -k 0.1 0.5 ")
    found = state.parse(read(host, path + code), top=str(host))
    assert found is not None
    assert found.files["/one"].digest == "2c8b08da5ce60398"
    assert found.complete


def test_what_was_read_ahead_counts_only_for_files_that_are_the_same(tmp_path: Path) -> None:
    """Between the two looks, a file is written with its time set back, one is replaced, and one is new."""
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    for name in ("kept", "written", "replaced"):
        (host / name).parent.mkdir(exist_ok=True)
        (host / name).write_text("one\n")
    # Waits for the reader, and takes its age for two seconds more.
    reading = provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait")
    read(host, reading, left=[])
    (ahead / "began").write_text(f"{time.time() + 3:.0f}\n")
    (digests,) = ahead.glob("of.*")
    true = digests.read_text()
    digests.write_text("".join("f" * 64 + line[64:] + "\n" for line in true.splitlines()))  # to tell them apart
    times = (host / "written").stat()
    (host / "written").write_text("two\n")
    os.utime(host / "written", ns=(times.st_atime_ns, times.st_mtime_ns))
    (host / "new").write_text("one\n")
    (host / "new").rename(host / "replaced")
    (host / "new").write_text("one\n")
    found = state.parse(read(host, provision.state_below(str(host), str(ahead)).text), top=str(host))
    assert found is not None
    one = true[:16]
    digests_of = {path: file.digest for path, file in found.files.items() if file.kind == "f"}
    assert digests_of == {"/kept": "f" * 16, "/written": "27dd8ed44a83ff94", "/replaced": one, "/new": one}
    assert not ahead.exists()


def test_a_file_that_changed_just_before_it_was_read_ahead_is_read_again(tmp_path: Path) -> None:
    """Its next change could have the same time."""
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    (host / "fresh").write_text("one\n")
    read(host, provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait"), left=[])
    (digests,) = ahead.glob("of.*")
    digests.write_text("f" * 64 + digests.read_text()[64:])
    found = state.parse(read(host, provision.state_below(str(host), str(ahead)).text), top=str(host))
    assert found is not None
    assert found.files["/fresh"].digest == "2c8b08da5ce60398"


def test_a_file_that_changes_during_the_first_sync_is_not_older_than_the_beginning(tmp_path: Path) -> None:
    """A page that is changed then gets its time there, and none later."""
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    (host / "page").write_text("one\n")
    reading = provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait")
    read(host, reading.replace("\nsync\n", "\ncp began seen\n"), left=[])
    assert (ahead / "seen").read_text() == (ahead / "began").read_text()


def test_a_second_reading_ahead_leaves_the_first_one_alone(tmp_path: Path) -> None:
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    (host / "one").write_text("one\n")
    reading = provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait")
    read(host, reading, left=[])
    (ahead / "of.first").write_text("")
    read(host, reading, left=[])
    assert (ahead / "of.first").exists()


def test_the_reading_ahead_waits_for_the_end_of_the_boot(tmp_path: Path) -> None:
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    (host / "one").write_text("one\n")
    (tmp_path / "bin").mkdir()
    state_now = f"if [ $(wc -l <{tmp_path}/looks) -lt 3 ]; then echo starting; else echo running; fi"
    for name, code in (("systemctl", f"ls {ahead} >>{tmp_path}/looks; {state_now}"), ("sleep", ":")):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{code}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    reading = provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait")
    read(host, f"PATH={tmp_path}/bin:$PATH\n{reading}", left=[])
    assert (tmp_path / "looks").read_text() == "pid\n" * 3, "nothing was read before"
    assert list(ahead.glob("of.*"))


@pytest.mark.parametrize("ahead", [True, False])
def test_units_may_be_listed_before_the_sealing(tmp_path: Path, ahead: bool) -> None:
    """The service that ends the builder was not removed yet then. Only one list is made."""
    host = tmp_path / "host"
    host.mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(
        f"""#!/bin/sh
echo x >>{tmp_path}/listed
echo 'goldenami-builder-lifetime.service enabled enabled'
echo 'nginx.service enabled enabled'
"""
    )
    (tmp_path / "bin/systemctl").chmod(0o755)
    units = provision.UNITS_AHEAD
    first = f"{units.first.text}\n({units.script.text}\n) &\n" if ahead else ""
    code = f"PATH={tmp_path}/bin:$PATH\n{first}{provision.state_below(str(host)).text}"
    found = state.parse(read(host, code), top=str(host))
    assert found is not None
    assert found.services == {"nginx.service": "enabled"}
    assert (tmp_path / "listed").read_text() == "x\n"


@pytest.mark.parametrize("free", [0, 80])
def test_nothing_is_read_ahead_if_there_is_little_room_for_it(tmp_path: Path, free: int) -> None:
    """``free``: KiB. A list may take a sixteenth of it."""
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    for number in range(60):
        (host / f"a-file-with-a-long-name-{number:03}").write_text("one\n")
    reading = provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait")
    read(host, reading.replace("df -P -k .", f'printf "%s\\n" head "disk 9 9 {free} 9% /run"'), left=[])
    assert [one.name for one in ahead.iterdir()] == []
    found = state.parse(read(host, provision.state_below(str(host), str(ahead)).text), top=str(host))
    assert found is not None
    assert {file.digest for file in found.files.values() if file.kind == "f"} == {"2c8b08da5ce60398"}


def test_a_part_that_cannot_be_written_as_a_whole_is_left_out(tmp_path: Path) -> None:
    host, ahead = tmp_path / "host", tmp_path / "ahead"
    host.mkdir()
    (host / "one").write_text("one\n")
    reading = provision.read_ahead_below(str(host), str(ahead)).text.replace("exit 0", "wait")
    assert reading.count('>"$0/part.$$" &&') == 1
    read(host, reading.replace('>"$0/part.$$" &&', ">/dev/full &&"), left=[])
    assert not [one.name for one in ahead.iterdir() if one.name.startswith(("of.", "part."))]
    code = provision.state_below(str(host)).text
    assert code.count('>"$0/part.$$" &&') == 1
    found = state.parse(read(host, code.replace('>"$0/part.$$" &&', ">/dev/full &&")), top=str(host))
    assert found is not None
    assert not found.complete


@pytest.mark.parametrize(
    ("text", "instead"),
    [("NR > 200000", "NR > 3"), ("timeout 120 xargs", "timeout() { return 124; }; timeout 120 xargs")],
    ids=["files", "time"],
)
def test_a_host_that_was_not_read_as_a_whole_says_so(top: Path, text: str, instead: str) -> None:
    code = provision.state_below(str(top)).text
    assert code.count(text) == 1
    parsed = state.parse(read(top, code.replace(text, instead)), top=str(top))
    assert parsed is not None
    assert not parsed.complete
    assert parsed.users, "the rest is there"


def test_a_text_that_was_cut_says_so(found: State) -> None:
    assert state.parse("=files\n f\t644\t0:0\t1\t\t/a\n f\t6") == State(
        {"/a": File("f", "644", "0:0", 1)}, complete=False
    )
    assert state.parse("") is None
    assert state.parse("nonsense\n=other\n x") is None


def test_a_document_gives_the_same_state_and_the_same_bytes(found: State) -> None:
    data = state.dumps(found)
    assert state.loads(data, source="it") == found
    assert state.dumps(state.loads(data, source="it")) == data
    for damaged in (data[:-9], b"", b"{}", data[:20] + bytes([data[20] ^ 1]) + data[21:]):
        with pytest.raises(CatalogError, match="it cannot be read"):
            state.loads(damaged, source="it")


PLAIN = File("f", "644", "0:0", 3, "", "1111111111111111")


@pytest.mark.parametrize(
    ("path", "before", "after", "change", "what", "explained"),
    [
        ("/usr/bin/app", PLAIN, replace(PLAIN, digest="2" * 16), "changed", ("contents",), False),
        ("/usr/bin/app", PLAIN, replace(PLAIN, mode="4755", owner="0:7"), "changed", ("mode", "owner"), False),
        ("/usr/bin/app", None, PLAIN, "added", (), False),
        ("/usr/bin/app", PLAIN, None, "removed", (), False),
        ("/bin/a", File("l", "777", "0:0", 0, "b"), File("l", "777", "0:0", 0, "c"), "changed", ("target",), False),
        ("/var/log/apt/history.log", PLAIN, replace(PLAIN, size=4), "changed", ("contents",), True),
        ("/var/log", File("d", "755", "0:0", 0), None, "removed", (), True),
        ("/boot/initrd.img-6.1.0-1-amd64", PLAIN, replace(PLAIN, digest="2" * 16), "changed", ("contents",), True),
        ("/usr/lib/python3/__pycache__/a.pyc", PLAIN, replace(PLAIN, digest=""), "changed", ("contents",), True),
        ("/etc/passwd-", PLAIN, None, "removed", (), True),
        ("/var/logs/x", PLAIN, None, "removed", (), False),
    ],
)
def test_a_file_that_differs_is_listed_and_explained(
    path: str, before: File | None, after: File | None, change: str, what: tuple[str, ...], explained: bool
) -> None:
    old, new = ({"/same": PLAIN} | ({path: one} if one is not None else {}) for one in (before, after))
    (only,) = state.changed_files(State(old), State(new))
    assert (only.path, only.change, only.what, bool(only.why)) == (path, change, what, explained)
    assert state.changed_files(State(old), State(old)) == ()


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The catalog of the project in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "goldenami.yaml").write_text(
        """environments:
  test:
    home: {account: "111111111111", region: eu-central-1}
    targets: [{account: home, regions: [eu-central-1], kms_key: alias/golden-ami}]
    catalog: catalog
"""
    )
    return Catalog(tmp_path / "catalog")


def test_images_diff_shows_the_hosts(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_manifest("1.4.20261124.1"), make_manifest("1.4.20261124.2", build_id="b-2")
    before = State(
        {"/etc": File("d", "755", "0:0", 0), "/usr/bin/app": PLAIN, "/var/log/a": PLAIN},
        services={"nginx.service": "enabled"},
        users={"app": "999 999 /srv /bin/sh"},
        ports={"tcp 0.0.0.0:22": ""},
        sysctls={"kernel.panic": "0"},
        used=100 << 20,
    )
    after = replace(
        before,
        files={"/etc": File("d", "755", "0:0", 0), "/usr/bin/app": replace(PLAIN, mode="4755")},
        services={},
        users={"app": "999 999 /srv /bin/bash"},
        groups={"app": "999 "},
        ports={"tcp 0.0.0.0:22": "", "tcp 0.0.0.0:80": ""},
        sysctls={"kernel.panic": "10"},
        used=150 << 20,
    )
    for manifest, one in ((first, before), (second, after)):
        catalog.keep_document(manifest.recipe, manifest.version, state.file_name("x86_64"), state.dumps(one))
        catalog.add(manifest)
    assert main(["images", "diff", second.recipe, "-e", "test", "--files"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for line in (
        "  - nginx.service x86_64: enabled",
        "  ~ app x86_64: uid 999, gid 999, home /srv, shell /bin/sh → uid 999, gid 999, home /srv, shell /bin/bash",
        "  + group app x86_64: gid 999",
        "  + tcp 0.0.0.0:80 x86_64",
        "  ~ kernel.panic x86_64: 0 → 10",
        "  ~ used disk x86_64: 100 MiB → 150 MiB",
        "  ~ number of files x86_64: 3 → 2",
        "files x86_64: 1 removed, 1 changed; 1 of them not explained",
        "  ~ /usr/bin/app (mode)",
        "  - /var/log/a: a log",
    ):
        assert line in shown, shown
    assert main(["images", "diff", second.recipe, "-e", "test"]) == 0
    counted = capsys.readouterr().out
    assert "/usr/bin/app" not in counted
    assert "files x86_64: 1 removed, 1 changed; 1 of them not explained (--files lists them)" in counted
    assert main(["images", "diff", second.recipe, "-e", "test", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [ChangedFile(**{**one, "what": tuple(one["what"])}).path for one in document["files"]["x86_64"]] == [
        "/usr/bin/app",
        "/var/log/a",
    ]
    # The values as they are, without words for people.
    assert [(one["what"], one["before"], one["after"]) for one in document["users"]] == [
        ("app x86_64", "999 999 /srv /bin/sh", "999 999 /srv /bin/bash"),
        ("group app x86_64", None, "999 "),
    ]
    assert {"what": "files x86_64", "before": "3", "after": "2"} in document["measures"]
    assert main(["images", "diff", second.recipe, "-e", "test", "--markdown", "--files"]) == 0
    noted = capsys.readouterr().out.splitlines()
    for line in (  # a sign would begin a list in the list
        "- removed nginx.service x86\\_64: enabled",
        "- added tcp 0.0.0.0:80 x86\\_64",
        "- added group app x86\\_64: gid 999",
        "- changed number of files x86\\_64: 3 → 2",
        "- changed /usr/bin/app (mode)",
        "<details><summary>files x86_64: 1 removed, 1 changed; 1 of them not explained</summary>",
    ):
        assert line in noted, noted


def test_a_release_without_a_state_is_unknown(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("1.4.20261124.1", "1.4.20261124.2"):
        catalog.add(make_manifest(version, build_id=version))
    assert main(["images", "diff", "debian-12-web", "-e", "test"]) == 0
    assert "a release has no state of its images" in capsys.readouterr().out
