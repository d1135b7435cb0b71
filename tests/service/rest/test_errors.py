import json

import pytest

from clearweight.service import QueueFullError, UnavailableError
from clearweight.service.rest.errors import error_response


@pytest.mark.parametrize(
    ("error", "status"), [(QueueFullError("full"), 429), (UnavailableError("loading"), 503)]
)
def test_who_may_come_again_is_told_when(error, status):
    reply = error_response(error)

    assert reply.status_code == status
    assert int(reply.headers["retry-after"]) > 0
    assert json.loads(reply.body) == {"error": str(error)}
