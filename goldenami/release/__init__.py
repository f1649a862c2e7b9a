"""Releases: distributes tested candidates, verifies and publishes them; the catalog stores all releases.

The pipeline calls these functions in this order::

    version = catalog.reserve(recipe.name, recipe.version, today, build_id=…, now=…)
    with distribute(ledger, order, candidates, emit=emit) as distribution:
        test(distribution.home_image(architecture))         # boots the final image while the other copies continue
        distributed = distribution.finish()
    verified = verify(ledger, order, distributed, emit=emit)
    manifest = ImageManifest(images=verified.images, …)
    published = publish(ledger, catalog, manifest, channel=…, …)

Import from the modules. The modules of the catalog load no AWS library, so that ``goldenami resolve`` starts quickly.
"""
