"""EC2 done as AWS does it: instances, images, snapshots, volumes, tags, over a node that holds the contents.

``service.Ec2`` is the door. It keeps its own store, asks the rest of the cloud through ``hooks.Hooks`` (key pairs,
networks, KMS, launch templates, parameters) and has work done by a ``Node``: the real one, or ``paper.PaperNode``.
"""
