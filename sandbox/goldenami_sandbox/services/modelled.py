"""REST services whose actions are methods. Parameters, validation and answers follow botocore's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from goldenami_sandbox import models
from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call, rest_json_response
from goldenami_sandbox.services import Service
from goldenami_sandbox.surface import Unsupported

Action = Callable[[Call, dict[str, Any]], "Mapping[str, Any] | Response"]


class Refused(Exception):
    """An error in the form of the service. ``members``: members of the error in the model, besides its message."""

    def __init__(self, code: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.members = code, message, status, members


class Modelled(Service):
    """A service over botocore's model. ``actions`` returns the method for each action.

    A method gets the call and its parameters, with the names of boto3 and valid by the model. It returns the members of
    the answer, or a whole response, and raises Refused.
    """

    invalid: ClassVar[str] = "ValidationException"  # the error code for a request that does not fit the model

    def actions(self) -> Mapping[str, Action]:
        raise NotImplementedError

    def refusal(self, problems: list[str]) -> Refused:
        """Return the error for a request with these problems."""
        return Refused(self.invalid, "; ".join(problems))

    def perform(self, action: Action, call: Call, params: dict[str, Any]) -> Mapping[str, Any] | Response:
        """Call the action. A service that needs a lock overrides this."""
        return action(call, params)

    def serve(self, call: Call, identity: Identity) -> Response:
        action = self.actions().get(call.action)
        if action is None:
            raise Unsupported(f"the sandbox does not have {call.service}:{call.action}")
        try:
            params = models.parameters(call.service, call.action, call.request)
            if problems := models.problems(call.service, call.action, params):
                raise self.refusal(problems)
            answer = self.perform(action, call, params)
        except Refused as refused:
            body = {"Code": refused.code, "Message": refused.message, **refused.members}
            return rest_json_response(body, refused.status, refused.code)
        if isinstance(answer, Response):
            return answer
        return rest_json_response(answer, models.status(call.service, call.action))
