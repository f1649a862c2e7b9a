"""One cloud for all tests of a module here: they keep out of each other's way by names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from goldenami_sandbox.testing import PaperCloud
from goldenami_sandbox.testing import paper_cloud as make_paper_cloud

# Errors are what these tests look at; a client that retries hides them.
ONCE = Config(retries={"total_max_attempts": 1})


@pytest.fixture(scope="module")
def cloud() -> Iterator[PaperCloud]:
    with make_paper_cloud() as cloud:
        yield cloud


@pytest.fixture
def client(cloud: PaperCloud) -> Callable[..., Any]:
    """boto3 clients of that cloud: ``client("kms", region, account)``."""

    def make(service: str, region: str = "eu-central-1", account: str = "home", **credentials: str) -> Any:
        return cast(Any, boto3.client)(service, **{**cloud.client(region, account), **credentials}, config=ONCE)

    return make
