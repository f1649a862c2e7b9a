"""REST services whose actions are methods. Parameters and answers follow botocore's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from goldenami_sandbox import models
from goldenami_sandbox.constraints import Problem, message
from goldenami_sandbox.credentials import Identity
from goldenami_sandbox.http import Response
from goldenami_sandbox.protocol import Call, rest_json_response
from goldenami_sandbox.services import Service
from goldenami_sandbox.surface import Unsupported
from goldenami_sandbox.validation import Invalid

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

    def refuse(self, call: Call, invalid: Invalid) -> Response:
        if not invalid.problems or any(problem.kind == "type" for problem in invalid.problems):
            return invalid.response
        return _error(self.refusal(invalid.problems))

    def actions(self) -> Mapping[str, Action]:
        raise NotImplementedError

    def refusal(self, problems: list[Problem]) -> Refused:
        """Return the error for a request with these problems."""
        return Refused(self.invalid, message(problems))

    def perform(self, action: Action, call: Call, params: dict[str, Any]) -> Mapping[str, Any] | Response:
        """Call the action. A service that needs a lock overrides this."""
        return action(call, params)

    def serve(self, call: Call, identity: Identity) -> Response:
        action = self.actions().get(call.action)
        if action is None:
            raise Unsupported(f"the sandbox does not have {call.service}:{call.action}")
        try:
            answer = self.perform(action, call, dict(call.params or {}))
        except Refused as refused:
            return _error(refused)
        if isinstance(answer, Response):
            return answer
        return rest_json_response(answer, models.status(call.service, call.action))


def _error(refused: Refused) -> Response:
    body = {"Code": refused.code, "Message": refused.message, **refused.members}
    return rest_json_response(body, refused.status, refused.code)
