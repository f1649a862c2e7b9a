"""The updates that a package manager would install now, without a host: from the list of installed packages, and from
the indices of the repositories.

    sources.read(manager, text)             where an image takes packages from; ``text``: of ``PackageManager.sources``
    lookup.find(installed, sources, …)      the updates, or why they are unknown
    versions.dpkg_key, versions.rpm_key     the order of versions, by the distributions' own rules

``apt`` and ``dnf`` read the indices of one repository each and choose a version as the manager does. ``fetch``
downloads them: bounded in size and time, kept in a directory, and asked for again only if they have changed. Nothing
here changes a host or the cloud.

Checked: the checksum of every index against the Release file or repomd.xml, and the expiry of a Release file. Not
checked: the signatures of those two files, because the keys are in the image. A forged index can cause a build or
prevent one; what the build installs is verified by the package manager on the host.
"""
