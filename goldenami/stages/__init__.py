"""The stages of a build. Each stage is idempotent: it skips the work that the journal records as done.

``build``       the context that every stage gets: the plan, the ledger, the host work
``before``      what a build finds out before it creates anything: its plan, what would make it fail, its names
``deciding``    what a build would do: its plan, the bases that are built first, whether a channel moves
``facts``       the facts that a plan needs from the cloud
``opening``     opens a new build, with its journal, version, tags and secrets; and reopens a build for a resume
``expected``    the stages that a build will run, and how long they took in past builds
``hosts``       launches temporary instances, connects to them with a pinned host key, terminates them
``candidate``   base image -> prepared builder -> captured candidate
``proof``       gate 2: boots the final, encrypted image and runs the tests
``host_work``   the work on a host over SSH: provisioning, both gates, sealing
``nothing_new`` ends a build before the capture if its image would be the last release again
``attesting``   the states of the tested images, and the signed statement about a release
``replacing``   replaces an instance that was lost
``watch``       detects that an instance was lost
``ending``      deletes or keeps the resources of a build that failed or was interrupted
``notices``     the notifications of a build
``logins``      logins to the instances of a build that runs or was kept
``remote``      a recipe on a host that exists: apply it, report what differs, run its tests
``fresh``       a task: tests an image on a fresh instance, and deletes it
``expired``     finds expired temporary resources

The other modules are parts of these.
"""
