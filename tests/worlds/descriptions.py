"""What botocore makes from its descriptions of services, made once in a process.

For each session, botocore reads the description of a service, and looks at the parameters of its 300 handlers; for each
client, it makes a name and a method for each operation of the service, 800 for EC2, and looks for the names of events
in a list of aliases. Together that is a third of the processor time of the tests that call the cloud on paper, because
each test has sessions of its own. All of it is the same each time.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType, MethodType
from typing import Any

import botocore.hooks
import botocore.session
import pytest
from botocore.client import ClientCreator
from botocore.model import ServiceModel

from goldenami.aws import descriptions


def share() -> None:
    """From now on, the sessions of this process share what is the same for all of them. The classes of clients stay
    their own, because handlers of a session may add to them."""
    patch = pytest.MonkeyPatch()
    hooks: Any = botocore.hooks
    session: Any = botocore.session
    creator: Any = ClientCreator
    make_methods, make_names = creator._create_methods, creator._create_name_mapping
    accepts_kwargs = hooks.accepts_kwargs
    find_alias = hooks.EventAliaser._alias_event_name
    for_functions = cache(accepts_kwargs)
    methods: dict[ServiceModel, dict[str, Any]] = {}
    names: dict[ServiceModel, dict[str, str]] = {}
    aliases: dict[str, str] = {}

    @cache
    def model_of(loader: Any, service: str, version: str | None) -> ServiceModel:
        return ServiceModel(loader.load_service_model(service, "service-2", api_version=version), service_name=service)

    def load_service_model(self: Any, service_name: str, api_version: str | None = None) -> ServiceModel:
        return model_of(self._loader, service_name, api_version)

    def create_methods(self: Any, model: ServiceModel) -> dict[str, Any]:
        if model not in methods:
            methods[model] = make_methods(self, model)
        return dict(methods[model])

    def create_name_mapping(self: Any, model: ServiceModel) -> dict[str, str]:
        if model not in names:
            names[model] = make_names(self, model)
        return dict(names[model])

    def accepts(function: Any) -> Any:
        plain = function.__func__ if isinstance(function, MethodType) else function  # not kept with its object
        return (for_functions if isinstance(plain, FunctionType) else accepts_kwargs)(plain)

    def alias_event_name(self: Any, event_name: str) -> str:
        """All sessions have the same aliases."""
        if event_name not in aliases:
            aliases[event_name] = find_alias(self, event_name)
        return aliases[event_name]

    patch.setattr(session, "create_loader", cache(session.create_loader))
    # The command line reads a part of EC2's description, once in each process. Here the whole one is there already.
    patch.setattr(descriptions._Process, "quickly", False)
    patch.setattr(descriptions, "install", lambda: None)
    patch.setattr(creator, "_load_service_model", load_service_model)
    patch.setattr(creator, "_create_methods", create_methods)
    patch.setattr(creator, "_create_name_mapping", create_name_mapping)
    patch.setattr(hooks, "accepts_kwargs", accepts)
    patch.setattr(hooks.EventAliaser, "_alias_event_name", alias_event_name)
