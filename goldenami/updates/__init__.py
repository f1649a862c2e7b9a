"""The updates that a package manager would install now, without a host: from the list of installed packages, and from
the indices of the repositories.

    sources.read(manager, text)             where an image takes packages from; ``text``: of ``PackageManager.sources``
    lookup.find(installed, sources, …)      the updates, or why they are unknown
    versions.dpkg_key, versions.rpm_key     the order of versions, by the distributions' own rules

``apt`` and ``dnf`` read the indices of one repository each and choose a version as the manager does. ``fetch``
downloads them: bounded in size and time, kept in a directory, and asked for again only if they have changed. Nothing
here changes a host or the cloud.

Checked: the signature of a Release file by the keys of the image (``signatures``), or else that the server vouches for
it over https; for dnf, the checksum in a metalink or https. From there the checksums lead to every index.
"""
