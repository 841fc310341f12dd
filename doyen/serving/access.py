"""What endpoints need of a request: the service, who asks, and whether the client is still there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from doyen.errors import AccessError, DoyenError, StoreError
from doyen.models.ticket import Ticket
from doyen.serving.admission import Admission
from doyen.serving.events import gone
from doyen.serving.faults import HTTPFault
from doyen.serving.keys import Principal
from doyen.serving.service import Service

T = TypeVar("T")


def service_of(request: Request) -> Service:
    """Return the service of the application."""
    found: Service = request.app.state.service
    return found


def principal_of(request: Request) -> Principal:
    """Return who asks, as the guard found. Raises AccessError where it did not look."""
    found: Principal | None = request.state.entry.principal
    if found is None:
        raise AccessError("no API key was sent")
    return found


def audit(request: Request, **fields: Any) -> None:
    """Note for the audit log what a request asked for and which documents it showed."""
    request.state.entry.audit |= fields


def needs(role: str) -> Any:
    """Return the dependency that gives who asks, if they may do what a role may. Raises AccessError."""

    def check(request: Request) -> Principal:
        found = principal_of(request)
        if not found.may(role):
            raise AccessError(f"the key {found.id} is a {found.role}'s; this takes an {role}'s", known=True)
        return found

    return Depends(check)


Reader = Annotated[Principal, needs("reader")]
Editor = Annotated[Principal, needs("editor")]
Admin = Annotated[Principal, needs("admin")]


@contextmanager
def not_found(code: str, kind: type[DoyenError] = StoreError) -> Iterator[None]:
    """Answer 404 where an error of this kind says that there is not what was asked for."""
    try:
        yield
    except kind as error:
        raise HTTPFault(404, code, str(error), hint=error.hint) from None


async def run(request: Request, queue: Admission, work: Callable[[Ticket], T]) -> T:
    """Do work in a thread while the client waits. Raises what the work raises; where the client leaves, it is given up."""
    found = await queue.run(lambda ticket: (work(ticket),), lambda: gone(request.receive))
    if found is None:
        service_of(request).metrics.left.inc()
        raise HTTPFault(499, "client_left", "the client has left")
    return found[0]
