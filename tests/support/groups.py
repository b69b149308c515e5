"""How pytest-xdist shares out tests; needs pytest-xdist."""

from support.parts import group_of
from xdist.scheduler import LoadScopeScheduling


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Hands groups of tests to workers, where its base hands out modules."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
