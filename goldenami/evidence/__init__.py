"""Evidence about releases: what is in an image, whether it is vulnerable, and who built it.

    packages.parse(text)           the inventory of a host, from the text that ``provision.INVENTORY`` reads
    sbom.FORMATS["cyclonedx"]      an inventory as CycloneDX 1.6 or SPDX 2.3
    feeds.read(source, wanted, …)  what a feed tells about vulnerabilities of packages
    vulnerabilities.judge(…)       what the policy of an environment says about an inventory
    statement.make(manifest, …)    what a release is made of, by whom, and what its tests found
    signing.sign(statement, key)   an envelope with a signature
    contents.of_snapshot(…)        the content digest of a volume

The catalog keeps the inventory of each image under its digest, and the manifest names the digest. Documents of standard
formats are made from it when somebody asks for one: the same inventory and release give the same bytes. The modules
here read no catalog: ``release`` keeps and checks the documents.
"""
