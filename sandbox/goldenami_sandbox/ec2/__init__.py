"""EC2 as AWS implements it: instances, images, snapshots, volumes and tags, over a node that keeps the contents.

``service.Ec2`` is the entry point. It has its own store. It uses the rest of the cloud through ``hooks.Hooks`` (key
pairs, networks, KMS, launch templates, parameters) and a ``Node`` for the contents: the real one, or
``paper.PaperNode``.
"""
