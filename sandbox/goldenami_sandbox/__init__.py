"""The embedded cloud: AWS APIs on loopback, with real instances behind them.

From the outside in: ``control`` starts and finds it, ``daemon`` is its process, ``cloud`` answers requests in layers,
``ec2`` does EC2 and ``surface`` has moto do the rest, ``node`` holds instances, volumes and snapshots. ``testing``
serves one without contents.
"""
