"""The order of versions, by cases as in the tests of dpkg (Dpkg_Version.t) and rpm (rpmvercmp.at)."""

from __future__ import annotations

import pytest

from goldenami.updates.versions import dpkg_key, rpm_compare, rpm_key

DPKG = """
1.0-1 > 1.0-1~
1.0-1 = 0:1.0-1
1.0 = 1.0-0
1:0.1 > 2.0
0.9~rc1-1 < 0.9-1
1.0~~ < 1.0~
1.0~~a < 1.0~
1.0~ < 1.0
1.0 < 1.0+b1
1.0a < 1.0+
1.0a < 1.0b
1.2.10 > 1.2.9
1.2.10 > 1.2.9-9
0 < 0.0
1.0.4-2 > 1.0pre7-2
2.0.7pre1-4 < 2.0.7r-1
2.2.20-2 = 2.2.20-002
0-0 = 0
7.88.1-10+deb12u8 < 7.88.1-10+deb12u12
3.0.15-1~deb12u1 < 3.0.15-1
1:1.2.13.dfsg-1 < 1:1.2.13.dfsg-1+deb12u1
2.4.52-1ubuntu4.9 < 2.4.52-1ubuntu4.10
"""
RPM = """
1.0 = 1.0
1.0 < 2.0
2.0.1a > 2.0.1
5.5p1 < 5.5p10
10xyz < 10.1xyz
xyz10 < xyz10.1
xyz.4 < 8
8 > xyz.4
5.5p2 < 5.6p1
5.6p1 < 6.5p1
6.0.rc1 > 6.0
10b2 > 10a1
10a2 > 10a1
1.0aa > 1.0a
10.0001 = 10.1
10.0001 < 10.0039
4.999.9 < 5.0
20101121 < 20101122
2_0 = 2.0
2.0 = 2_0
a = a
a+ = a_
+a = _a
1.0~rc1 < 1.0
1.0~rc1 < 1.0~rc2
1.0~rc1~git123 < 1.0~rc1
1.0^ > 1.0
1.0^git1 < 1.01
1.0^git1 < 1.0.1
1.0^20160101 < 1.0.1
1.0^20160101^git1 > 1.0^20160101
1.0~rc1^git1 > 1.0~rc1
1.0^git1~pre < 1.0^git1
"""


def cases(text: str) -> list[tuple[str, int, str]]:
    rows = [line.split() for line in text.split("\n") if line]
    return [(first, {"<": -1, "=": 0, ">": 1}[sign], second) for first, sign, second in rows]


@pytest.mark.parametrize(("first", "order", "second"), cases(DPKG))
def test_dpkg(first: str, order: int, second: str) -> None:
    assert (dpkg_key(first) > dpkg_key(second)) - (dpkg_key(first) < dpkg_key(second)) == order
    assert (dpkg_key(second) > dpkg_key(first)) - (dpkg_key(second) < dpkg_key(first)) == -order


@pytest.mark.parametrize(("first", "order", "second"), cases(RPM))
def test_rpm(first: str, order: int, second: str) -> None:
    assert rpm_compare(first, second) == order
    assert rpm_compare(second, first) == -order


def test_the_parts_of_an_rpm_version() -> None:
    ordered = ["1.9-9.el9", "1.10-1.el9", "1.10-1.el9_4", "1.10-2.el9", "1:0.1-1"]
    other_way = list(reversed(ordered))
    assert sorted(other_way, key=rpm_key) == ordered
    assert rpm_key("0:1.0-1") == rpm_key("1.0-1")


def test_a_version_of_any_length_is_compared() -> None:
    long = "9" * 10_000
    assert dpkg_key(long) > dpkg_key("1")
    assert rpm_compare(long, "1") == 1
