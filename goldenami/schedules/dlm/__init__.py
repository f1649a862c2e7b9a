"""Schedules run by Amazon Data Lifecycle Manager instead of by `goldenami schedule run`.

express  a schedule as PolicyDetails, or why it cannot be      (pure)
sync     what there is against what should be, and the steps   (reads; apply changes)
imports  policies that exist as schedules, to be declared      (pure)
"""
