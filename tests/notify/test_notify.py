"""Receivers are told what is true, once it is true; and whatever they do, the work goes on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goldenami import pipeline, task
from goldenami.aws.messages import LONGEST_SUBJECT, one_line
from goldenami.errors import GoldenAmiError, Interrupted, TestsFailed
from goldenami.notify import delivery as notifications
from goldenami.notify.document import LONGEST_TEXT, MOST_IMAGES, EventDocument, id_of, job_url, make
from goldenami.release import channels, receivers
from goldenami.release.retention import Rules
from goldenami.release.versions import Reference
from tests.notify.receiving import TOPIC, Hook, Queues, notify, program, serving
from tests.worlds import retiring
from tests.worlds.builds import CHANNEL, HOME, PLACES, RECIPE, Death, Label, World
from tests.worlds.retiring import releases

BUS = "bus: {eventbridge: {bus: images}}"
BOTH = f"{BUS}\ntopic: {{sns: {{topic: '{TOPIC}'}}}}"


@pytest.fixture
def world(build_world: World) -> World:
    build_world.fresh()
    return build_world


@pytest.fixture
def hook() -> Iterator[Hook]:
    with serving() as hook:
        yield hook


def warnings(world: World) -> list[str]:
    return [e.fields["message"] for e in world.events if e.kind == "note" and e.fields.get("level") == "warning"]


def promote(world: World, version: str, channel: str = "live", **more: Any) -> channels.Moved:
    world.cloud.start_process()
    return channels.promote(
        world.environment,
        Reference(RECIPE, version=version),
        channel,
        cloud=world.cloud,
        emit_to=world.events.append,
        **more,
    )


# --- what is told -----------------------------------------------------------------------------------------------------


def test_a_release_is_told_to_a_bus_and_a_topic(world: World) -> None:
    queues = Queues(world)
    notify(world, BOTH)
    made = world.build()
    assert made.unsent == {}
    (event,) = queues.read("bus")
    assert (event["source"], event["detail-type"]) == ("goldenami", "Golden AMI Release")
    told = event["detail"]
    assert EventDocument.model_validate(told).event == "release"
    assert (told["name"], told["version"], told["build"]) == (RECIPE, made.manifest.version, made.manifest.build_id)
    assert told["channels"] == [{"name": CHANNEL, "from": None, "to": made.manifest.version}]
    assert {i["image_id"] for i in told["images"]} == {i.image_id for i in made.images}
    assert told["by"].startswith("arn:aws:")
    assert datetime.fromisoformat(told["deprecated"]) > datetime.now(UTC)
    (message,) = queues.read("topic")
    assert message["Subject"] == told["title"] == f"web {made.manifest.version} was released into stable (test)"
    assert json.loads(message["Message"]) == told
    assert message["MessageAttributes"]["event"]["Value"] == "release"


def test_the_commands_that_move_channels_are_told(world: World) -> None:
    first, second = releases(world, 2)
    queues = Queues(world)
    notify(world, BUS)
    promote(world, first.version)
    assert promote(world, second.version, reason="soaked").unsent == {}
    assert not promote(world, second.version).changed
    world.cloud.start_process()
    channels.rollback(world.environment, RECIPE, "live", cloud=world.cloud)
    channels.revoke(world.environment, RECIPE, second.version, reason="CVE-2026-1", cloud=world.cloud)
    channels.restore(world.environment, RECIPE, second.version, cloud=world.cloud)
    events = queues.of_bus()
    assert [e["event"] for e in events] == ["promotion", "promotion", "rollback", "revocation", "restoration"]
    assert len({e["id"] for e in events}) == 5
    _, moved, back, revoked, _ = events
    assert moved["channels"] == [{"name": "live", "from": first.version, "to": second.version}]
    assert moved["reason"] == "soaked"
    assert moved["command"] == "goldenami history web@live"
    assert back["channels"] == [{"name": "live", "from": second.version, "to": first.version}]
    assert revoked["channels"] == [{"name": CHANNEL, "from": second.version, "to": first.version}]
    assert revoked["reason"] == "CVE-2026-1"


def test_a_retirement_is_told(world: World) -> None:
    made = releases(world, 3)
    queues = Queues(world)
    notify(world, BUS)
    world.cloud.start_process()
    retiring.go(world, {RECIPE: Rules(keep=1)})
    assert {(e["event"], e["version"]) for e in queues.of_bus()} == {("deprecation", one.version) for one in made[:1]}


def test_a_build_with_the_inputs_of_a_release_tells_of_the_move(world: World) -> None:
    queues = Queues(world)
    notify(world, BUS)
    first = world.build()
    text = (world.path / "recipes/web.yaml").read_text()
    world.change_recipe("second")
    world.build()
    (world.path / "recipes/web.yaml").write_text(text)
    world.change_recipe("hello")
    assert world.build().status == "moved"
    assert [e["event"] for e in queues.of_bus()] == ["release", "release", "promotion"]
    assert world.build().status == "unchanged"
    assert queues.of_bus() == []
    assert first.manifest.version


def test_filters(world: World) -> None:
    (made,) = releases(world, 1)
    queues = Queues(world)
    notify(
        world,
        "bus: {eventbridge: {bus: images}, on: [promotion], recipes: [web], channels: [live]}",
    )
    promote(world, made.version, "other")
    promote(world, made.version, "live")
    assert [e["channels"][0]["name"] for e in queues.of_bus()] == ["live"]


def test_a_waiver_that_ends_soon_is_told_by_a_build(world: World) -> None:
    from goldenami import recipe as recipes

    queues = Queues(world)
    notify(world, BUS)
    soon = (datetime.now(UTC) + timedelta(days=3)).date().isoformat()
    file = world.path / "recipes/web.yaml"
    file.write_text(
        file.read_text().replace("/etc/motd", "/etc/hello")  # the profile has a control of /etc/motd
        + "hardening:\n  profiles: [debian-12-level-1]\n  waivers: "
        + f"{{ssh-no-x11: {{reason: jump host, expires: {soon}}}}}\n"
    )
    world.project = recipes.load_project(world.path)
    found = recipes.inspect(world.project, [RECIPE], environment="test", variables={})
    assert [str(w.message) for w in found.warnings] == ["the waiver of ssh-no-x11 ends in 3 days"]
    world.build()
    world.build()
    events = queues.of_bus()
    assert [e["event"] for e in events] == ["waiver", "release", "waiver"], "the second build is unchanged"
    assert events[0]["waivers"] == [{"control": "ssh-no-x11", "expires": soon, "reason": "jump host"}]
    assert events[0]["id"] == events[2]["id"]


# --- failures and interruptions ---------------------------------------------------------------------------------------


def test_a_failed_build_is_told_after_its_clean_up(world: World, hook: Hook) -> None:
    notify(world, f"hook: {{webhook: {{url: '{hook.url}'}}}}")

    def fail(*_: Any) -> Any:
        raise TestsFailed("2 tests failed at the gate image")

    world.host_work.prove = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(TestsFailed):
        world.build()
    (event,) = hook.events()
    assert (event["event"], event["error"]) == ("failure", "2 tests failed at the gate image")
    assert event["channels"] == [{"name": CHANNEL, "from": None, "to": None}]
    actions = [call["action"] for call in world.paper.calls]
    assert "DeregisterImage" in actions


def test_an_interrupted_build_is_told(world: World, hook: Hook) -> None:
    notify(world, f"hook: {{webhook: {{url: '{hook.url}'}}}}")

    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    world.host_work.prove = interrupt  # type: ignore[method-assign, assignment]
    hook.gate = threading.Event()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        world.build()
    assert time.monotonic() - began < notifications.AT_INTERRUPT + 120, "the receiver does not answer for 600 s"
    hook.gate.set()
    assert any("did not answer in time" in text or "no answer within" in text for text in warnings(world))


def test_a_build_that_cannot_begin_is_told(world: World) -> None:
    queues = Queues(world)
    notify(world, BUS)
    file = world.path / "recipes/web.yaml"
    file.write_text(file.read_text().replace("debian-12-amd64-*", "debian-12-none-*"))
    from goldenami import recipe as recipes

    world.project = recipes.load_project(world.path)
    with pytest.raises(GoldenAmiError) as raised:
        world.build()
    assert not warnings(world), (raised.type, raised.value)
    (event,) = queues.of_bus()
    assert event["title"] == "The build of web failed before it began (test)"


def test_a_move_that_fails_is_told_after_its_undo(world: World) -> None:
    (made,) = releases(world, 1)
    queues = Queues(world)
    notify(world, BUS)

    def refuse(label: Label, call: Any, serve: Any) -> Any:
        if label.action == "PutParameter" and label.region == "eu-west-1":
            return call.error("AccessDeniedException", "no")
        return serve()

    world.gate.start(refuse)
    with pytest.raises(GoldenAmiError):
        promote(world, made.version)
    world.gate.stop()
    (event,) = queues.of_bus()
    assert event["event"] == "failure"
    assert event["title"] == f"promote of web {made.version} to live failed (test)"
    assert event["channels"] == [{"name": "live", "from": None, "to": None}]


# --- killed processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_between_a_move_and_its_message_is_made_up_for_by_resume(world: World, when: str) -> None:
    (made,) = releases(world, 1)
    queues = Queues(world)
    notify(world, BUS)
    world.cloud.start_process(Label("events", "PutEvents", HOME, "eu-central-1", 1), when)
    with pytest.raises(Death):
        channels.promote(world.environment, Reference(RECIPE, version=made.version), "live", cloud=world.cloud)
    sent = queues.of_bus()
    assert len(sent) == (when == "after")
    outcome = world.resume()
    assert (outcome.status, outcome.unsent) == ("moved", {})
    again = queues.of_bus()
    assert [e["event"] for e in again] == ["promotion"]
    assert all(e["id"] == again[0]["id"] for e in sent), "the receiver can drop it"
    assert world.journals.unfinished() == ()


def test_a_kill_between_a_release_and_its_message_is_made_up_for_by_resume(world: World) -> None:
    queues = Queues(world)
    notify(world, BUS)
    world.build_until(Label("events", "PutEvents", HOME, "eu-central-1", 1), "before")
    assert world.resume().status == "released"
    assert [e["event"] for e in queues.of_bus()] == ["release"]


def test_clean_sends_what_a_killed_revocation_did_not(world: World) -> None:
    (made,) = releases(world, 1)
    queues = Queues(world)
    notify(world, BUS)
    world.cloud.start_process(Label("events", "PutEvents", HOME, "eu-central-1", 1), "before")
    with pytest.raises(Death):
        channels.revoke(world.environment, RECIPE, made.version, reason="bad", cloud=world.cloud)
    (left,) = [s.build_id for s in world.journals.unfinished()]
    world.clean(left)
    assert [e["event"] for e in queues.of_bus()] == ["revocation"]


def test_the_next_move_of_a_channel_sends_what_a_killed_one_did_not(world: World) -> None:
    first, second = releases(world, 2)
    queues = Queues(world)
    notify(world, BUS)
    world.cloud.start_process(Label("events", "PutEvents", HOME, "eu-central-1", 1), "before")
    with pytest.raises(Death):
        channels.promote(world.environment, Reference(RECIPE, version=first.version), "live", cloud=world.cloud)
    promote(world, second.version)
    assert [e["version"] for e in queues.of_bus()] == [first.version, second.version]
    assert world.journals.unfinished() == ()


# --- receivers that do not do their part ------------------------------------------------------------------------------


def test_a_failing_receiver_is_a_warning_and_the_others_are_told(world: World, hook: Hook) -> None:
    queues = Queues(world)
    hook.answers = [503, 200]
    notify(
        world,
        f"none: {{eventbridge: {{bus: none-such}}}}\nlost: {{sns: {{topic: '{TOPIC}-not'}}}}\n"
        "gone: {webhook: {url: 'http://127.0.0.1:9/'}, timeout: 1s}\n"
        f"hook: {{webhook: {{url: '{hook.url}'}}}}\n{BUS}",
    )
    made = world.build()
    assert made.status == "released"
    assert set(made.unsent) == {"none", "lost", "gone"}
    assert made.unsent["none"] == f"the bus none-such does not exist in {PLACES[0]}"
    assert "Topic does not exist" in made.unsent["lost"]
    assert made.unsent["gone"].startswith("no connection")
    assert len(hook.got) == 2, "503 was tried again"
    assert len(queues.of_bus()) == 1
    assert len([text for text in warnings(world) if text.startswith("notify: ")]) == 3


def test_an_entry_that_eventbridge_refuses_is_a_failure(world: World) -> None:
    from goldenami_sandbox.protocol import json_response

    notify(world, BUS)
    Queues(world)
    refused = {
        "FailedEntryCount": 1,
        "Entries": [{"ErrorCode": "NotAuthorizedForSourceException", "ErrorMessage": "no"}],
    }
    world.gate.start(lambda label, _, serve: json_response(refused) if label.action == "PutEvents" else serve())
    made = world.build()
    world.gate.stop()
    assert "NotAuthorizedForSourceException" in made.unsent["bus"]


def send(world: World, **more: Any) -> dict[str, receivers.Tested]:
    world.cloud.start_process()
    _, found = receivers.send_test(world.environment, cloud=world.cloud, emit_to=world.events.append, **more)
    return {one.name: one for one in found}


def test_a_slow_webhook_has_a_time_limit(world: World, hook: Hook) -> None:
    hook.gate = threading.Event()
    notify(world, f"hook: {{webhook: {{url: '{hook.url}'}}, timeout: 1s}}")
    began = time.monotonic()
    assert not send(world)["hook"].sent
    assert time.monotonic() - began < 300


def test_a_redirect_is_not_followed(world: World, hook: Hook) -> None:
    with serving() as other:
        hook.location, hook.answers = other.url, [307]
        notify(world, f"hook: {{webhook: {{url: '{hook.url}'}}}}")
        assert send(world)["hook"].answer == "status 307, a redirect, which is not followed"
        assert other.got == []


def test_secrets_reach_the_receiver_and_nothing_else(world: World, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hunter22\n")
    notify(
        world,
        "hook: {webhook: {url: {secret: {env: HOOK}}, headers: {Authorization: {secret: {env: HOOK_TOKEN}}}}}\n"
        "unset: {webhook: {url: {secret: {env: NOT_SET}}}}",
    )
    answers = send(world)
    headers, _ = hook.got[0]
    assert headers["Authorization"] == "Bearer hunter22"
    assert headers["Goldenami-Event-Id"] == hook.events()[0]["id"]
    assert (answers["hook"].sent, answers["hook"].answer) == (True, "status 200: thanks for ********")
    assert answers["unset"].answer == "the environment variable NOT_SET is missing or empty"
    written = "".join(f.read_text() for f in world.path.rglob("journal.jsonl")) + str(world.events)
    assert "hunter22" not in written
    assert hook.url not in written
    monkeypatch.setenv("HOOK_TOKEN", "Bearer hunter22\nX-More: 1")
    refused = send(world)["hook"]
    assert not refused.sent
    assert (
        refused.answer == "the header Authorization has a line break or another character that is not printable ASCII"
    )
    monkeypatch.setenv("HOOK", f"{hook.url}\x01hunter22")
    assert send(world)["hook"].answer == "the address is not a URL that begins with https://"
    assert len(hook.got) == 1


def test_a_template_makes_the_body(world: World, hook: Hook) -> None:
    notify(world, f"""hook: {{webhook: {{url: '{hook.url}', body: '{{"say": {{{{ event.title | tojson }}}}}}'}}}}""")
    assert send(world)["hook"].sent
    assert json.loads(hook.got[0][1]) == {"say": "This is a test of the notifications (test)"}


def test_a_program_gets_the_event_and_a_clean_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "hunter22")
    program(world.path / "tell.sh", 'cat > got.json; env > env.txt; echo "told $GIVEN"')
    program(world.path / "hang.sh", "sleep 30 & wait")
    program(world.path / "fail.sh", "echo sorry; exit 3")
    notify(
        world,
        "tell: {command: {argv: [./tell.sh], environment: [GIVEN]}}\n"
        "hang: {command: {argv: [./hang.sh]}, timeout: 1s}\n"
        "fail: {command: {argv: [./fail.sh]}}\nnone: {command: {argv: [./none.sh]}}",
    )
    answers = send(world)
    assert answers["tell"].answer == "status 0: told ********"
    assert json.loads((world.path / "got.json").read_text())["event"] == "test"
    assert "AWS_" not in (world.path / "env.txt").read_text()
    assert answers["hang"].answer == "the program did not end within 1 s"
    assert answers["fail"].answer == "the program ended with status 3: sorry"
    assert answers["none"].answer == "the program cannot be started: No such file or directory"


def test_a_test_can_be_sent_to_one_receiver(world: World, hook: Hook) -> None:
    queues = Queues(world)
    notify(world, f"hook: {{webhook: {{url: '{hook.url}'}}, on: [failure]}}\n{BOTH}")
    assert set(send(world, only="bus")) == {"bus"}
    assert hook.got == []
    answers = send(world)
    assert all(one.sent for one in answers.values())
    assert {one.kind for one in answers.values()} == {"webhook", "eventbridge", "sns"}
    assert [e["event"] for e in queues.of_bus()] == ["test", "test"]
    assert world.journals.unfinished() == ()


def test_planning_and_checking_send_nothing(world: World, hook: Hook) -> None:
    program(world.path / "tell.sh", "cat > got.json")
    notify(world, f"hook: {{webhook: {{url: '{hook.url}'}}}}\ntell: {{command: {{argv: [./tell.sh]}}}}")
    request = pipeline.Request(world.project, world.environment, RECIPE)
    from goldenami.aws.session import Cloud
    from tests.worlds.builds import logged_in

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cloud, "of", logged_in)
        pipeline.make_plan(request)
    assert (hook.got, (world.path / "got.json").exists()) == ([], False)


# --- the document -----------------------------------------------------------------------------------------------------


def test_a_document_is_far_below_the_limits_of_the_services(world: World) -> None:
    from dataclasses import replace

    (made,) = releases(world, 1)
    large = replace(made, images=made.images * 300)
    event = make(
        "failure",
        id=id_of("x"),
        title="t" * 300,
        time="2026-11-24T03:00:00Z",
        environment="test",
        manifest=large,
        error="é" * 100_000,
    )
    assert (len(event.images), event.more_images) == (MOST_IMAGES, len(large.images) - MOST_IMAGES)
    assert event.error is not None
    assert len(event.error) == LONGEST_TEXT
    assert len(json.dumps(event.to_json()).encode()) < 128 * 1024


@pytest.mark.parametrize(
    ("given", "subject"),
    [("a\nb", "a b"), ("naïve", "na?ve"), ("x" * 200, "x" * (LONGEST_SUBJECT - 3) + "...")],
)
def test_subjects(given: str, subject: str) -> None:
    assert one_line(given) == subject


def test_the_page_of_the_job_is_found() -> None:
    assert job_url({}) is None
    assert job_url({"CI_JOB_URL": "https://gitlab/-/jobs/1"}) == "https://gitlab/-/jobs/1"
    github = {"GITHUB_RUN_ID": "7", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b"}
    assert job_url(github) == "https://github.com/a/b/actions/runs/7"


def test_the_kinds_of_tasks_whose_failures_are_told_exist() -> None:
    assert set(task.MOVES) <= set(task._RELEASING)
