"""What all endpoints of one server share. Made once, closed once; knows no HTTP but the size of its queues."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from doyen.models.engine import Engine
from doyen.serving.admission import Admission
from doyen.serving.audit import AuditLog
from doyen.serving.desk import Desk
from doyen.serving.jobs import Jobs
from doyen.serving.keys import KeyRing
from doyen.serving.metrics import Metrics
from doyen.serving.pace import Pace
from doyen.serving.page_drawing import PageDrawer
from doyen.serving.sessions import Sessions

_ASKING_THREADS = 32
_QUICK_THREADS = 16
_QUICK = 256


@dataclass(slots=True)
class Service:
    """The desk, its queues (`asks` for what the model writes, `quick` for all else), keys, conversations, jobs."""

    desk: Desk
    asks: Admission
    quick: Admission
    keys: KeyRing
    sessions: Sessions
    jobs: Jobs
    pages: PageDrawer
    metrics: Metrics
    audit: AuditLog
    pace: Pace
    ready: bool = False
    stopping: bool = False

    @property
    def state(self) -> str:
        """`loading`, `ready` or `stopping`."""
        return "stopping" if self.stopping else "ready" if self.ready else "loading"

    @property
    def origins(self) -> list[str]:
        """The other sites whose pages may use the server with a key."""
        return [origin.strip() for origin in self.desk.settings.serve.origins.split(",") if origin.strip()]

    @classmethod
    def of(cls, expert: Path, *, engine: Engine | None = None) -> Service:
        """Make the service of the expert in a folder. Raises as `Expert.open`, and ExpertError for broken keys."""
        keys = KeyRing(expert)
        desk = Desk(expert, engine=engine)
        limits = desk.settings.serve
        return cls(
            desk,
            Admission(limits.requests, _ASKING_THREADS, limits.time_limit_s, "doyen-ask"),
            Admission(_QUICK, _QUICK_THREADS, limits.time_limit_s, "doyen-quick"),
            keys,
            Sessions(expert),
            Jobs(expert),
            PageDrawer(expert),
            Metrics(),
            AuditLog(expert, limits.audit_mib),
            Pace(limits.key_requests_a_minute),
        )

    def open(self) -> None:
        """Load the models, and go on with the jobs that an earlier server left."""
        self.jobs.start()
        self.desk.open()
        self.ready = True

    async def close(self, within_s: float) -> None:
        """Let what is at work come to its end, for so long; then give it up."""
        self.stopping = True
        await self.asks.empty(within_s)
        self.asks.close()
        self.quick.close()
        self.desk.close()
        self.jobs.stop()
        self.pages.close()
