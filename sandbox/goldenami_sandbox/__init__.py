"""A local AWS endpoint for tests: AWS APIs on loopback, with real instances.

The modules, from the outside in: ``control`` starts and finds a sandbox. ``daemon`` is its process. ``cloud`` passes
requests through layers. ``ec2`` implements EC2, ``services`` some other services, and ``surface`` calls moto for the
rest. ``node`` keeps instances, volumes and snapshots. ``testing`` serves a cloud whose instances have no contents.
"""
