"""Builds without hosts, as far as the process of a build needs it: work on hosts that ends at once, and what it builds.

It loads no cloud and no pytest: ``driver`` starts many such processes.
"""

from __future__ import annotations

from goldenami.aws.recent import Patience
from goldenami.evidence.state import State, dumps
from goldenami.model import Architecture, Package, SshEndpoint, TestReport
from goldenami.stages.build import BuildContext, Candidate, Host, Prepared
from goldenami.stages.replacing import may_freeze
from goldenami.validate import Traces

RECIPE = "web"
# These clouds show at once what was created. On AWS, "not found" proves something only after minutes.
PATIENCE = Patience(visible=2.0, known=2.0)


class PaperHostWork:
    """Prepares and proves at once, and remembers what. ``inventory``, ``state``: of the hosts, by architecture."""

    def __init__(self) -> None:
        self.inventory: dict[str, str] = {}
        self.state: dict[str, State] = {}
        self.prepared: list[str] = []
        self.proved: list[str] = []

    def answers(self, address: str, port: int) -> bool:
        return False

    def log_in(self, build: BuildContext, endpoint: SshEndpoint) -> None:
        return None

    def get_ready(self, build: BuildContext, architecture: Architecture) -> None:
        pass

    def prepare(self, build: BuildContext, architecture: Architecture, host: Host) -> Prepared:
        self.prepared.append(host.instance_id)
        report = TestReport("builder", architecture, 3, 0, 0, 0, 0.1)
        packages = (Package("base-files", "12.4", "amd64"),)
        traces = Traces(host.login_key, (host.endpoint.host_key,), "0" * 32, ())
        state = dumps(self.state[architecture]) if architecture in self.state else b""
        inventory = self.inventory.get(architecture, "")
        frozen = may_freeze(build, architecture)
        found = (report, packages, (), traces)
        return Prepared(
            architecture,
            host.instance_id,
            *found,
            inventory=inventory,
            state=state,
            frozen=frozen,
            launched=host.launched,
        )

    def prove(self, build: BuildContext, made: Candidate, host: Host) -> TestReport:
        self.proved.append(host.instance_id)
        return TestReport("image", made.architecture, 4, 0, 0, 0, 0.1)

    def prove_reboot(self, build: BuildContext, made: Candidate, host: Host, before: TestReport) -> TestReport:
        return TestReport("reboot", made.architecture, 2, 0, 0, 0, 0.1)
