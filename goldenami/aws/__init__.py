"""AWS: one module for each kind of resource, and the ledger through which every change goes.

No other package imports boto3 or botocore.
"""
