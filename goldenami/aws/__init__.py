"""The AWS layer: one module for each kind of resource, and the ledger for all mutating calls.

No other package imports boto3 or botocore.
"""
