"""The stages of a build, each an "ensure": what the journal knows to be done is not done again.

``build``       what every stage gets: the plan, and the tools
``facts``       what the cloud has to say before there is a plan
``hosts``       temporary instances: launched, reached over a pinned host key, disposed of
``candidate``   base image -> provisioned, tested, sealed, captured
``proof``       the final, encrypted image -> booted and tested
"""
