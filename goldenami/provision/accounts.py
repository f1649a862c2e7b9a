"""Settings of many accounts at once: password ageing, and no login for system accounts."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, model_validator

from goldenami.provision.fields import AbsolutePath, Account
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_DAYS = re.compile(r"-1|[0-9]{1,6}")


class PasswordAgeing(Operation):
    """Sets when the passwords of existing accounts expire (chage(1)). New accounts get the values in /etc/login.defs
    and /etc/default/useradd: change those with `setting`.

    Without names, every account that has a password is changed. Many cloud images have no such account.
    """

    kind: ClassVar[str] = "password_ageing"
    brings_units: ClassVar[bool] = False

    users: tuple[Account, ...] | None = Field(
        None, min_length=1, description="Names of the accounts. Default: all accounts that have a password."
    )
    max_days: int | None = Field(None, ge=-1, description="Days until the password must be changed; -1: never.")
    min_days: int | None = Field(None, ge=-1, description="Days before the password can be changed again.")
    warn_days: int | None = Field(None, ge=-1, description="Days of warning before the password expires.")
    inactive_days: int | None = Field(
        None, ge=-1, description="Days from the password's expiry until the account is locked; -1: never."
    )

    @model_validator(mode="after")
    def _require_a_limit(self) -> PasswordAgeing:
        if not self._wanted():
            raise ValueError("expected at least one of max_days, min_days, warn_days and inactive_days")
        return self

    def _wanted(self) -> dict[str, tuple[str, int]]:
        """Returns chage's option and the days, by the shell variable that holds the field of /etc/shadow."""
        options = {
            "_max": ("--maxdays", self.max_days),
            "_min": ("--mindays", self.min_days),
            "_warn": ("--warndays", self.warn_days),
            "_inactive": ("--inactive", self.inactive_days),
        }
        return {name: (option, days) for name, (option, days) in options.items() if days is not None}

    def title(self) -> str:
        who = "all with a password" if self.users is None else ", ".join(self.users)
        shown = " ".join(f"{name[1:]} {days}" for name, (_, days) in self._wanted().items())
        return f"password_ageing of {who}: {shown}"

    def compile(self, to: Compilation) -> Steps:
        wanted = self._wanted()
        tests = [
            sh(
                '[ "${@variable:--1}" = @days ] || { @wrong; }',
                variable=Script(name),
                days=str(days),
                wrong=sh(
                    '_wrong="$_name: @what is ${@variable:-not set}"', what=Script(name[1:]), variable=Script(name)
                ),
            )
            for name, (_, days) in wanted.items()
        ]
        whose = (
            Script("case $_password in '' | '!'* | '*'*) continue ;; esac")
            if self.users is None
            else sh("case $_name in @names) ;; *) continue ;; esac", names=_alternatives(self.users))
        )
        walk = sh(
            """while IFS=: read -r _name _password _changed _min _max _warn _inactive _rest; do
@whose
_wrong=''
@tests
@do
done </etc/shadow""",
            whose=whose,
            tests=lines(*tests),
            do=Script('[ -z "$_wrong" ] || { detail=$_wrong; return 1; }'),
        )
        there = [
            sh("getent passwd @name >/dev/null || { detail=@why; return 1; }", name=name, why=f"no user {name}")
            for name in self.users or ()
        ]
        options = [word for option, days in wanted.values() for word in (option, str(days))]
        if self.users is not None:
            apply = lines(*(sh("chage @options -- @name", options=options, name=name) for name in self.users))
        else:
            apply = sh(
                """awk -F: '$2 !~ /^[!*]/ && $2 != "" { print $1 }' /etc/shadow | while read -r _name; do
chage @options -- "$_name"
done""",
                options=options,
            )
        return Steps(lines(*there, walk), apply)


class SystemAccounts(Operation):
    """Prevents logins to system accounts: they get a shell that refuses logins, and their passwords are locked.

    System accounts have a number below UID_MIN in /etc/login.defs. `root` is not changed, nor are `sync`, `shutdown`
    and `halt`, whose shell is a command.
    """

    kind: ClassVar[str] = "system_accounts"
    brings_units: ClassVar[bool] = False

    shell: AbsolutePath = Field("/usr/sbin/nologin", description="The shell of the accounts.")
    locked: bool = Field(True, description="Whether the passwords are locked.")
    exclude: tuple[Account, ...] = Field((), description="Accounts that are not changed.")

    def title(self) -> str:
        return f"system_accounts: {self.shell}" + (", locked" if self.locked else "")

    def compile(self, to: Compilation) -> Steps:
        spared = _alternatives(("root", "sync", "shutdown", "halt", *self.exclude))

        def walk(shell: Script, lock: Script, passwd: Script) -> Script:
            return sh(
                """_limit=$(awk '$1 == "UID_MIN" { print $2 }' /etc/login.defs 2>/dev/null)
while IFS=: read -r _name _x _uid _gid _gecos _home _shell; do
[ "$_uid" -lt "${_limit:-1000}" ] || continue
case $_name in @spared) continue ;; esac
case $_shell in @wanted | */nologin | /bin/false | /usr/bin/false) ;; *) @shell ;; esac
@lock
done <@passwd""",
                spared=spared,
                wanted=self.shell,
                shell=shell,
                lock=lock,
                passwd=passwd,
            )

        password = Script("""_password=$(grep -e "^$_name:" /etc/shadow | cut -d: -f2)""")
        check = walk(
            Script('detail="the shell of $_name is $_shell"; return 1'),
            lines(
                password,
                Script("""case $_password in '!'* | '*'*) ;; *) detail="$_name is not locked"; return 1 ;; esac"""),
            )
            if self.locked
            else Script(""),
            Script("/etc/passwd"),
        )
        # The loop reads a copy, because usermod changes the file meanwhile.
        apply = lines(
            Script('_accounts="$work/accounts"\ncat /etc/passwd >"$_accounts"'),
            walk(
                sh('usermod --shell @shell -- "$_name"', shell=self.shell),
                Script('usermod --lock -- "$_name"') if self.locked else Script(""),
                Script('"$_accounts"'),
            ),
        )
        return Steps(check, apply)


def _alternatives(names: tuple[str, ...]) -> Script:
    """Returns the pattern of a shell `case` that matches each of these names."""
    return Script(" | ".join(sh("@name", name=name).text for name in names))
