"""What holds for many accounts at once: the ageing of passwords, and that nobody logs in as one of the system's."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, model_validator

from goldenami.provision.fields import AbsolutePath, Account
from goldenami.provision.operation import Operation
from goldenami.provision.shell import Compilation, Script, Steps, lines, sh

_DAYS = re.compile(r"-1|[0-9]{1,6}")


class PasswordAgeing(Operation):
    """When passwords of existing accounts expire (chage(1)). New accounts get what /etc/login.defs and
    /etc/default/useradd say: see `setting`.

    Without names it is for every account that has a password, which in a cloud image may well be none.
    """

    kind: ClassVar[str] = "password_ageing"

    users: tuple[Account, ...] | None = Field(
        None, min_length=1, description="Names of the accounts. By default all that have a password."
    )
    max_days: int | None = Field(None, ge=-1, description="Days until it must be changed; -1: never.")
    min_days: int | None = Field(None, ge=-1, description="Days before it may be changed again.")
    warn_days: int | None = Field(None, ge=-1, description="Days of warning before it expires.")
    inactive_days: int | None = Field(
        None, ge=-1, description="Days after its expiry until the account is locked; -1: never."
    )

    @model_validator(mode="after")
    def _something(self) -> PasswordAgeing:
        if not self._wanted():
            raise ValueError("expected max_days, min_days, warn_days or inactive_days")
        return self

    def _wanted(self) -> dict[str, tuple[str, int]]:
        """By the variable that the field of /etc/shadow is read into: chage's option, and the days."""
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
    """No account of the system can log in: neither with a shell, nor with a password.

    These are the accounts with a number below UID_MIN of /etc/login.defs, but root, and the special ones `sync`,
    `shutdown` and `halt`, whose shell is a command.
    """

    kind: ClassVar[str] = "system_accounts"

    shell: AbsolutePath = Field("/usr/sbin/nologin", description="The shell that they have.")
    locked: bool = Field(True, description="Whether their passwords are locked.")
    exclude: tuple[Account, ...] = Field((), description="Accounts that are left as they are.")

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
        # The file is read from a copy, since it is changed on the way.
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
    """The pattern of a case: one of these names."""
    return Script(" | ".join(sh("@name", name=name).text for name in names))
