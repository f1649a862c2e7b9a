"""Fingerprints are those that gpg computes, by the model in Python and by the shell code on the host."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from goldenami.provision import openpgp
from goldenami.provision.repositories import Repository
from tests.provision.archives import Key

PACKAGES_SH = Path(openpgp.__file__).with_name("packages.sh")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Key, Key]:
    if shutil.which("gpg") is None:
        pytest.skip("NOT PROVEN: gpg is not installed, so no key can be made")
    home = tmp_path_factory.mktemp("keys")
    return Key.generate(home / "one", "One"), Key.generate(home / "two", "Two")


def on_host(path: Path, work: Path, shell: str = "sh") -> list[str]:
    script = f". {PACKAGES_SH}\nkey_fingerprints {path}"
    done = subprocess.run([shell, "-c", script], env={"work": str(work), "PATH": "/usr/bin:/bin"}, capture_output=True)
    return done.stdout.decode().split()


def test_fingerprints_are_gpgs(keys: tuple[Key, Key], tmp_path: Path) -> None:
    one, two = keys
    forms = {
        "armored": one.armored.encode(),
        "binary": one.binary(),
        "crlf": one.armored.replace("\n", "\r\n").encode(),
        "two": one.binary() + two.binary(),
        "two-armored": (one.armored + two.armored).encode(),
    }
    for name, data in forms.items():
        expected = [one.fingerprint, two.fingerprint] if name.startswith("two") else [one.fingerprint]
        path = tmp_path / name
        path.write_bytes(data)
        assert list(openpgp.fingerprints(data)) == expected, name
        assert on_host(path, tmp_path) == expected, name
        assert on_host(path, tmp_path, "bash") == expected, name


@pytest.mark.parametrize("path", sorted(Path("/usr/share/keyrings").glob("debian-archive-*.gpg")), ids=lambda p: p.name)
def test_keys_of_debian_have_the_same_fingerprints_in_both(path: Path, tmp_path: Path) -> None:
    assert on_host(path, tmp_path) == list(openpgp.fingerprints(path.read_bytes())) != []


@pytest.mark.parametrize(
    "data", [b"", b"no key", b"\xff\xff\xff", b"-----BEGIN PGP x-----\n\n=\n-----END PGP", b"\x99"]
)
def test_data_without_a_key_is_refused(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="key"):
        openpgp.fingerprints(data)
    (tmp_path / "x").write_bytes(data)
    assert on_host(tmp_path / "x", tmp_path) == []


def test_a_key_in_the_recipe_is_compared_with_its_fingerprint(keys: tuple[Key, Key]) -> None:
    one, two = keys
    given = {"name": "x", "uris": ["https://x.test"], "suites": ["s"], "key": one.armored}
    spaced = " ".join(one.fingerprint[i : i + 4] for i in range(0, 40, 4)).lower()
    assert Repository.model_validate({**given, "fingerprint": spaced}).fingerprints == (one.fingerprint,)
    with pytest.raises(ValueError, match=f"key has the fingerprint {one.fingerprint}, and not {two.fingerprint}"):
        Repository.model_validate({**given, "fingerprint": two.fingerprint})
    with pytest.raises(ValueError, match="not an OpenPGP public key"):
        Repository.model_validate({**given, "key": "nonsense"})
