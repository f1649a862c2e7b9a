"""What is read from a host about its packages and files, and the file of the catalog."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import zipfile
from functools import partial
from pathlib import Path

import pytest

from goldenami import provision
from goldenami.errors import CatalogError
from goldenami.evidence.packages import Component, Inventory, UnownedFile, dumps, loads, parse, purl

DEB = "package\t{status}\t{name}\t{version}\tamd64\t{source}\t{source_version}\tSome One <one@example.org>\t\thttps://x.org"


def text_of(*packages: str, manager: str = "apt", release: str = "debian\t12\tbookworm", more: str = "") -> str:
    lines = "".join(f" {line}\n" for line in packages)
    return f"=manager\n {manager}\n=system\n {release}\n=packages\n{lines}{more}=end\n"


def inventory_of(text: str) -> Inventory:
    found = parse(text)
    assert found is not None
    return found


# --- the text of a host -----------------------------------------------------------------------------------------------


def test_packages_have_their_source_package_and_licences() -> None:
    found = inventory_of(
        text_of(
            DEB.format(status="ii ", name="libssl3", version="3.0.11-1", source="openssl", source_version="3.0.11-1"),
            DEB.format(status="hi ", name="bash", version="5.2-2+b13", source="bash", source_version="5.2-2"),
            DEB.format(status="rc ", name="gone", version="1", source="gone", source_version="1"),
            "licence\tbash\tGPL-3+",
            "licence\tbash\tExpat",
        )
    )
    assert [(c.name, c.version, c.source, c.source_version, c.licences) for c in found.packages] == [
        ("bash", "5.2-2+b13", "bash", "5.2-2", ("Expat", "GPL-3+")),
        ("libssl3", "3.0.11-1", "openssl", "3.0.11-1", ()),
    ]
    assert found.complete
    assert (found.system, found.release, found.codename) == ("debian", "12", "bookworm")


@pytest.mark.parametrize(
    ("version", "source", "expected"),
    [
        ("1:3.0.8-1.amzn2023", "openssl-3.0.8-1.amzn2023.src.rpm", ("openssl", "1:3.0.8-1.amzn2023")),
        ("5.1-2.el9", "python-six-5.1-2.el9.src.rpm", ("python-six", "5.1-2.el9")),
        ("5.1-2.el9", "", ("libs", "5.1-2.el9")),
    ],
)
def test_source_packages_of_rpm_are_known_by_their_file(version: str, source: str, expected: tuple[str, str]) -> None:
    line = f"package\tii \tlibs\t{version}\tx86_64\t{source}\t\tAmazon Linux\tASL 2.0\t(none)"
    (found,) = inventory_of(text_of(line, manager="dnf", release="amzn\t2023\t")).packages
    assert (found.source, found.source_version) == expected
    assert (found.type, found.supplier, found.licences, found.homepage) == ("rpm", "Amazon Linux", ("ASL 2.0",), "")


def test_a_text_that_was_cut_is_not_taken_for_the_whole() -> None:
    line = DEB.format(status="ii ", name="a", version="1", source="a", source_version="1")
    whole = text_of(line, line.replace("\ta\t", "\tb\t"))
    for size in range(whole.index("bookworm") + 9, len(whole) - len("=end\n")):
        assert not inventory_of(whole[:size]).complete
    assert parse("") is None
    assert parse("bash: error\n") is None


def test_lines_of_strangers_forge_nothing() -> None:
    text = text_of(
        DEB.format(status="ii ", name="a", version="1\x1b[31m", source="a", source_version="1"),
        "package\tii \ttoo\tfew",
        more="=files\n /srv/a b\t5\t644\n /srv/x\x1b\t5\t644\n relative\t5\t644\n /srv/n\tmany\t644\n=count\n 9\n",
    )
    found = inventory_of(text)
    assert [c.version for c in found.components] == ["1[31m"]
    assert found.files == (UnownedFile("/srv/a b", 5),)
    assert found.files_not_listed == 8


def go_program(modules: str, version: str = "go1.22.5", flags: int = 2) -> bytes:
    def sized(text: bytes) -> bytes:
        length, out = len(text), b""
        while length >= 0x80:
            out += bytes([length & 0x7F | 0x80])
            length >>= 7
        return out + bytes([length]) + text

    listed = b"0" * 16 + modules.encode() + b"1" * 16
    return b"\xff Go buildinf:\x08" + bytes([flags]) + b"\0" * 16 + sized(version.encode()) + sized(listed)


def test_modules_of_a_go_program() -> None:
    modules = (
        "path\texample.org/app\nmod\texample.org/app\t(devel)\t\n"
        "dep\tgolang.org/x/net\tv0.17.0\th1:abc=\n"
        "dep\tgithub.com/old/one\tv1.0.0\n=>\tgithub.com/new/one\tv1.1.0\th1:def=\n"
        "dep\tgithub.com/local/one\tv2.0.0\n=>\t./vendor/one\t(devel)\t\n"
        "build\t-compiler=gc\n"
    )
    data = base64.b64encode(go_program(modules)).decode()
    found = inventory_of(text_of(more=f"=go\n /opt/app\t{data}\n /opt/other\tnot base64!\n")).components
    assert {(c.name, c.version) for c in found} == {
        ("stdlib", "1.22.5"),
        ("example.org/app", ""),
        ("golang.org/x/net", "v0.17.0"),
        ("github.com/new/one", "v1.1.0"),
        ("github.com/local/one", "v2.0.0"),
    }
    assert {c.path for c in found} == {"/opt/app"}
    for broken in (go_program(modules, flags=0), b"\xff Go buildinf:", go_program(modules)[:33]):
        data = base64.b64encode(broken).decode()
        assert inventory_of(text_of(more=f"=go\n /opt/app\t{data}\n")).components == ()


# --- the program that reads it ----------------------------------------------------------------------------------------


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A host with packages of all languages, and files that no package owns."""
    top = tmp_path / "top"
    files = {
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n',
        "etc/app.conf": "port = 80\n",
        "etc/owned.conf": "x\n",
        "usr/bin/owned": "x\n",
        "var/log/app.log": "left out\n",
        "usr/lib/python3/dist-packages/owned-1.0.dist-info/METADATA": "Name: owned\nVersion: 1.0\n",
        "opt/py/idna-3.7.dist-info/METADATA": "Name: idna\nVersion: 3.7\nLicense: BSD-3-Clause\n\nName: not a header\n",
        "opt/py/idna-3.7.dist-info/RECORD": "idna/core.py,sha256=x,1\n../bin/idna,sha256=y,1\n"
        "idna-3.7.dist-info/METADATA,,\nidna-3.7.dist-info/RECORD,,\n",
        "opt/py/idna/core.py": "x\n",
        "opt/py/idna/added.py": "not in RECORD\n",
        "opt/bin/idna": "x\n",
        "opt/app/node_modules/left-pad/package.json": '{"name":"left-pad","version":"1.3.0","license":"WTFPL"}',
        "opt/app/node_modules/left-pad/lib/index.js": "x\n",
        "opt/app/node_modules/@s/x/package.json": '{\n  "name": "@s/x",\n  "version": "2.0.0"\n}\n',
        "opt/app/node_modules/@s/x/node_modules/y/package.json": '{"version": "0.1.0"}\n',
        "opt/app/node_modules/.package-lock.json": "{}\n",
    }
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    (top / "bin").symlink_to("usr/bin")
    with zipfile.ZipFile(top / "opt/log4j-core-2.14.1.jar", "w", zipfile.ZIP_DEFLATED) as jar:
        jar.writestr("META-INF/maven/org.apache.logging/log4j-core/pom.properties", "version=2.14.1\n")
        jar.writestr("BOOT-INF/lib/spring-core-5.3.1.jar", "x")
    program = top / "opt/tool"
    program.write_bytes(b"\x7fELF" + bytes(400_012) + go_program("dep\tgolang.org/x/net\tv0.17.0\th1:a=\n"))
    program.chmod(0o755)
    return top


def read(top: Path, *replaced: tuple[str, str]) -> Inventory:
    """Run the program, with other texts in it, as on a host with that folder as root."""
    work = top.parent / "work"
    work.mkdir()
    owned = "/etc/owned.conf\n/bin/owned\n/usr/lib/python3/dist-packages/owned-1.0.dist-info/METADATA\nno path\n"
    code = f"inventory_packages() {{ :; }}\ninventory_owned() {{ printf '{owned}'; }}\n"
    program = provision.inventory_below(str(top)).text
    for text, instead in replaced:
        assert text in program
        program = program.replace(text, instead)
    code += f"work={work}\n{program}"  # the state of the host makes the same list
    done = subprocess.run(["sh", "-u", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert [path.name for path in work.iterdir()] == ["walk"]
    return inventory_of(done.stdout)


def test_the_files_of_a_host_are_listed_once(top: Path) -> None:
    """The state of the host made the list before: the inventory looks at no directory again."""
    work = top.parent / "work"
    work.mkdir()
    code = f"work={work}\ninventory_packages() {{ :; }}\ninventory_owned() {{ :; }}\n"
    state = provision.state_below(str(top)).text.removesuffix("exit 0\n")
    subprocess.run(["sh", "-u", "-c", code + state], capture_output=True, check=True)
    shutil.rmtree(top / "opt")
    (top / "etc/later.conf").write_text("x\n")
    done = subprocess.run(["sh", "-u", "-c", code + provision.inventory_below(str(top)).text],
                          capture_output=True, text=True, check=True)  # fmt: skip
    named = {file.path.removeprefix(str(top)) for file in inventory_of(done.stdout).files}
    assert "/opt/tool" in named
    assert "/etc/later.conf" not in named


def test_what_the_package_manager_knows_may_be_read_before(top: Path) -> None:
    """The lists are made once, and the inventory is the same."""
    work = top.parent / "work"
    work.mkdir()
    program = provision.inventory_below(str(top)).text
    managers = f"""work={work}
inventory_packages() {{ echo x >>{top.parent}/asked; printf 'package\\tii \\tapp\\t1\\tall\\tapp\\t1\\tme\\t\\t\\n'; }}
inventory_owned() {{ printf '/etc/owned.conf\\n/etc/app.conf\\n'; }}
"""
    ahead = f"{program.partition('_tries=')[0]}\ninventory_ahead -ahead\n"
    run = partial(subprocess.run, capture_output=True, text=True, check=True)
    assert run(["sh", "-u", "-c", managers + ahead]).stdout == ""
    program = f"echo =manager; echo ' apt'\n{program}"
    before = inventory_of(run(["sh", "-u", "-c", managers + program]).stdout)
    assert (top.parent / "asked").read_text() == "x\n"
    assert before == inventory_of(run(["sh", "-u", "-c", managers + program]).stdout)
    assert [component.name for component in before.components if component.type == "deb"] == ["app"]
    assert "/etc/app.conf" not in {file.path.removeprefix(str(top)) for file in before.files}


@pytest.mark.parametrize(
    "killed", ["inventory_packages", "inventory_owned", "sed", "sort", "awk", "find", "join", "cut"]
)
def test_a_list_whose_program_was_killed_is_not_taken_for_the_whole(top: Path, killed: str) -> None:
    """Neither one that is read before, which is then read again, nor the one that is read now."""
    work = top.parent / "work"
    work.mkdir()
    program = provision.inventory_below(str(top)).text
    code = f"""export work={work}
inventory_packages() {{ echo x; }}
inventory_owned() {{ echo /etc/owned.conf; }}
{killed}() {{ sh -c 'kill -s TERM $$'; }}
"""
    ahead = f"{code}{program.partition('_tries=')[0]}\ninventory_ahead -ahead\n"
    whole = subprocess.run(["sh", "-u", "-c", ahead], capture_output=True, text=True).returncode == 0
    assert whole is (killed in ("awk", "find", "join", "cut")), "which it does not use"
    assert (work / "owned-ahead").exists() is whole
    done = subprocess.run(["sh", "-u", "-c", code + program], capture_output=True, text=True, check=True)
    assert "=end" not in done.stdout.splitlines()
    assert whole or f" {top}/opt/" not in done.stdout, "nobody knows that no package has it"


def test_packages_of_languages_and_files_without_owner(top: Path) -> None:
    found = read(top)
    assert found.complete
    assert [(c.type, c.group, c.name, c.version, c.licences) for c in found.components] == [
        ("golang", "", "golang.org/x/net", "v0.17.0", ()),
        ("golang", "", "stdlib", "1.22.5", ()),
        ("maven", "", "spring-core", "5.3.1", ()),
        ("maven", "org.apache.logging", "log4j-core", "2.14.1", ()),
        ("npm", "", "@s/x", "2.0.0", ()),
        ("npm", "", "left-pad", "1.3.0", ("WTFPL",)),
        ("npm", "", "y", "0.1.0", ()),
        ("pypi", "", "idna", "3.7", ("BSD-3-Clause",)),
    ]
    named = {file.path.removeprefix(str(top)): file for file in found.files}
    assert sorted(named) == [
        "/etc/app.conf",
        "/etc/os-release",
        "/opt/app/node_modules/.package-lock.json",
        "/opt/log4j-core-2.14.1.jar",
        "/opt/py/idna/added.py",
        "/opt/tool",
    ]
    for name, file in named.items():
        data = (top / name[1:]).read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize(
    ("limit", "count"), [("5000", 1), ("20000", 3), ("1000", 1), ("2000", 1), ("64", 1)], ids=lambda value: str(value)
)
def test_a_list_that_was_cut_is_not_taken_for_the_whole(top: Path, limit: str, count: int) -> None:
    found = read(top, (f"_most {limit} ", f"_most {count - 1} "))
    assert not found.complete
    assert found.files, "the rest of the inventory is there"


@pytest.mark.parametrize("name", ["line\nend/app", "return\r"])
def test_a_host_with_files_that_cannot_be_told_is_not_taken_for_whole(top: Path, name: str) -> None:
    file = top / "opt" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("x\n")
    found = read(top)
    assert not found.complete
    assert len(found.components) == 8, "the rest of the inventory is there"


def test_lists_that_are_just_not_too_long_are_whole(top: Path) -> None:
    limits = {"5000": 1, "20000": 3, "1000": 1, "2000": 1, "64": 1}
    found = read(top, *((f"_most {limit} ", f"_most {count} ") for limit, count in limits.items()))
    assert found.complete
    assert len(found.components) == 8


def test_volumes_that_are_mounted_are_read(top: Path) -> None:
    for name in ("data/app.db", "snap/app.db", "top/var/log/audit/audit.log"):
        (top.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (top.parent / name).write_text("x\n")
    mounts = top.parent / "mounts"
    lines = ("/dev/vdb {}/../data", "/dev/loop0 {}/../snap", "/dev/vdc {}/var/log/audit", "none {}/../work")
    mounts.write_text("".join(f"{line.format(top)} ext4 rw 0 0\n" for line in lines))
    paths = {file.path.removeprefix(str(top)) for file in read(top, ("/proc/mounts", str(mounts))).files}
    assert {"/../data/app.db", "/etc/app.conf"} <= paths
    assert not [path for path in paths if "snap" in path or "log/" in path]


def test_a_system_without_a_codename_and_without_files(tmp_path: Path) -> None:
    (tmp_path / "top/etc").mkdir(parents=True)
    (tmp_path / "top/etc/os-release").write_text('ID="amzn"\nVERSION_ID="2023"\n')
    code = "set -u\ninventory_packages() { :; }\ninventory_owned() { printf '/etc/os-release\\n'; }\n"
    code += f"work={tmp_path}\n{provision.inventory_below(str(tmp_path / 'top')).text}"
    done = subprocess.run(["sh", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert inventory_of(done.stdout) == Inventory("amzn", "2023", "", ())


# --- package URLs, and the file ---------------------------------------------------------------------------------------

NAMED = [
    (Component("deb", "libstdc++6", "1:12.2.0-14+deb12u1~x", "amd64"),
     "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1~x?arch=amd64&distro=debian-12"),
    (Component("rpm", "openssl", "1:3.0.8-1", "x86_64"),
     "pkg:rpm/debian/openssl@3.0.8-1?arch=x86_64&distro=debian-12&epoch=1"),
    (Component("pypi", "Foo_Bar", "1.0"), "pkg:pypi/foo-bar@1.0"),
    (Component("npm", "@s/x", "2.0.0"), "pkg:npm/%40s/x@2.0.0"),
    (Component("golang", "golang.org/x/net", "v0.17.0"), "pkg:golang/golang.org/x/net@v0.17.0"),
    (Component("maven", "core", "2.14.1", group="org.a"), "pkg:maven/org.a/core@2.14.1"),
    (Component("maven", "core", "2.14.1"), "pkg:generic/core@2.14.1"),
]  # fmt: skip


@pytest.mark.parametrize(("component", "expected"), NAMED)
def test_package_urls(component: Component, expected: str) -> None:
    from packageurl import PackageURL

    assert purl(component, Inventory("debian", "12", "bookworm", ())) == expected
    assert PackageURL.from_string(expected).to_string() == expected


def test_the_file_of_an_inventory_is_stable_and_checked() -> None:
    components = tuple(component for component, _ in NAMED)
    inventory = Inventory("debian", "12", "bookworm", components, (UnownedFile("/etc/ü", 3, "0" * 64),), 7, False)
    text = dumps(inventory)
    assert loads(text) == inventory
    assert dumps(loads(text)) == text
    form = json.loads(text)
    for broken in ("", "[]", "{}", json.dumps(form | {"schema": "x"}), json.dumps(form | {"files": 3})):
        with pytest.raises(CatalogError, match=r"^where"):
            loads(broken, source="where")
