"""The stages of a build, each an "ensure": what the journal knows to be done is not done again.

``build``       what every stage gets: the plan, and the tools
``facts``       what the cloud has to say before there is a plan
``opening``     the journal, version, tags and secrets of a build; and its reopening
``hosts``       temporary instances: launched, reached over a pinned host key, disposed of
``candidate``   base image -> a prepared builder -> captured
``proof``       the final, encrypted image -> booted and tested
``host_work``    all that is done on a host, over SSH: provisioning, both gates, sealing
``ending``      what becomes of what a build made, when it failed or was interrupted
"""
