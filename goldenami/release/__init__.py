"""From tested candidates to a release, and the catalog that remembers all releases.

The story, as the pipeline tells it::

    version = catalog.reserve(recipe.name, recipe.version, today, build_id=…, now=…)
    with distribute(ledger, order, candidates, emit=emit) as distribution:
        test(distribution.home_image(architecture))         # boots the final image while the other copies go on
        distributed = distribution.finish()
    verified = verify(ledger, order, distributed, emit=emit)
    manifest = ImageManifest(images=verified.images, …)
    published = publish(ledger, catalog, manifest, channel=…, …)

Import from the modules: those of the catalog load no AWS library, so that ``goldenami resolve`` is quick.
"""
