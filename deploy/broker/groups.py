"""Consumer groups by the classic protocol: who is in, who leads, and when the partitions are dealt anew."""

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from kafka.errors import (
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    InvalidSessionTimeoutError,
    MemberIdRequiredError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

SESSION_MAX_MS = 1_800_000


class State(StrEnum):
    """Where a group stands; the values are the protocol's names."""

    EMPTY = "Empty"
    #: waiting for the members to join
    PREPARING = "PreparingRebalance"
    #: waiting for the leader to deal the partitions
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


@dataclass(frozen=True)
class Joining:
    """What a member says of itself when it joins; `protocols` are its assignors in its order of preference."""

    client_name: str
    client_host: str
    session_ms: int
    rebalance_ms: int
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]


@dataclass(eq=False)
class Member:
    """A member; `joined` and `synced` are what its waiting requests will be answered with."""

    id: str
    said: Joining
    heard_at: float
    assignment: bytes = b""
    joined: "asyncio.Future[None] | None" = None
    synced: "asyncio.Future[bytes] | None" = None
    timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether it has a request open, which is as good as a heartbeat."""
        return any(future is not None and not future.done() for future in (self.joined, self.synced))

    def metadata(self, protocol: str | None) -> bytes:
        return dict(self.said.protocols).get(protocol or "", b"")


@dataclass
class Group:
    """One group.

    Attributes:
        generation: grows with every rebalance.
        protocol: the assignor that all members know.
        leader: the id of the member that deals the partitions.
        pending: ids that were given out and have not joined yet; a rebalance waits for them.
    """

    id: str
    state: State = State.EMPTY
    generation: int = 0
    protocol_type: str = ""
    protocol: str | None = None
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    pending: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _deadline: asyncio.TimerHandle | None = None

    # -- requests

    async def join(self, member_id: str, said: Joining, *, id_required: bool) -> Member:
        """Join, or join again, and wait for the generation to begin.

        Raises:
            BrokerResponseError: the one that tells the member what is wrong.
        """
        if not 0 < said.session_ms <= SESSION_MAX_MS:
            raise InvalidSessionTimeoutError(f"a session of {said.session_ms} ms; at most {SESSION_MAX_MS} are kept")
        self._check_protocols(member_id, said)
        if member_id == "":
            member_id = f"{said.client_name}-{uuid.uuid4()}"
            if id_required:
                self._await_pending(member_id, said.session_ms / 1000)
                raise MemberIdRequiredError(member_id)
        elif member_id not in self.members and member_id not in self.pending:
            raise UnknownMemberIdError(member_id)
        if member_id in self.pending:
            self.pending.pop(member_id).cancel()
        member = self.members.get(member_id)
        if member is None:
            member = self.members[member_id] = Member(member_id, said, self._now())
            self._watch(member, said.session_ms / 1000)
            rebalance = True
        else:
            changed = member.said.protocols != said.protocols
            member.said, member.heard_at = said, self._now()
            # a leader that joins again asks for a new deal; anyone else may just have missed the answer
            rebalance = changed or (self.state is State.STABLE and member_id == self.leader)
        self.protocol_type = said.protocol_type
        if self.state is not State.PREPARING and not rebalance:
            return member
        if member.joined is None or member.joined.done():
            member.joined = asyncio.get_running_loop().create_future()
        joined = member.joined
        if self.state is not State.PREPARING:
            self._prepare()
        self._begin_if_all_joined()
        await asyncio.shield(joined)  # a member that asks twice waits twice: one that goes leaves the other waiting
        return member

    async def sync(self, member_id: str, generation: int, assignments: dict[str, bytes]) -> bytes:
        """Wait for the leader's deal, or bring it; returns the member's own part.

        Raises:
            BrokerResponseError: the member is not in, or the deal is off.
        """
        member = self._member(member_id, generation)
        if self.state is State.PREPARING:
            raise RebalanceInProgressError
        if self.state is State.STABLE:
            return member.assignment
        if member_id == self.leader:
            self.state = State.STABLE
            for each in self.members.values():
                each.assignment = assignments.get(each.id, b"")
                if each.synced is not None and not each.synced.done():
                    each.synced.set_result(each.assignment)
            return member.assignment
        if member.synced is None or member.synced.done():
            member.synced = asyncio.get_running_loop().create_future()
        return await asyncio.shield(member.synced)

    def heartbeat(self, member_id: str, generation: int) -> None:
        """Raises RebalanceInProgressError when the member is to join again, others when it is not in."""
        self._member(member_id, generation)
        if self.state is State.PREPARING:
            raise RebalanceInProgressError

    def leave(self, member_id: str) -> None:
        """Raises UnknownMemberIdError where it was not in."""
        if member_id in self.pending:
            self.pending.pop(member_id).cancel()
            self._begin_if_all_joined()
        elif member_id in self.members:
            self._remove(self.members[member_id])
        else:
            raise UnknownMemberIdError(member_id)

    def check_commit(self, member_id: str, generation: int) -> None:
        """Whether offsets may be committed: by a member of this generation, or by anyone while nobody is in.

        Raises:
            BrokerResponseError: they may not.
        """
        if generation < 0 and not self.members:
            return
        self._member(member_id, generation)
        if self.state is State.COMPLETING:
            raise RebalanceInProgressError

    def close(self) -> None:
        """Stop all timers."""
        for timer in (*self.pending.values(), *(member.timer for member in self.members.values()), self._deadline):
            if timer is not None:
                timer.cancel()

    # -- the state machine

    def _check_protocols(self, member_id: str, said: Joining) -> None:
        if not said.protocol_type or not said.protocols:
            raise InconsistentGroupProtocolError("a member names its protocol type and at least one protocol")
        others = [member for member in self.members.values() if member.id != member_id]
        if others and (said.protocol_type != self.protocol_type or not self._common(others) & _names(said)):
            raise InconsistentGroupProtocolError(f"the members of {self.id} share no protocol with this one")

    @staticmethod
    def _common(members: list[Member]) -> set[str]:
        return set.intersection(*(_names(member.said) for member in members))

    def _member(self, member_id: str, generation: int) -> Member:
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMemberIdError(member_id)
        if generation != self.generation:
            raise IllegalGenerationError(f"{generation}, and the group is at {self.generation}")
        member.heard_at = self._now()
        return member

    def _prepare(self) -> None:
        """Ask all members to join again, and wait for as long as the most patient of them allows."""
        self.state = State.PREPARING
        for member in self.members.values():
            if member.synced is not None and not member.synced.done():
                member.synced.set_exception(RebalanceInProgressError())
        patience_ms = max(member.said.rebalance_ms for member in self.members.values())
        self._deadline = asyncio.get_running_loop().call_later(patience_ms / 1000, self._begin)

    def _begin_if_all_joined(self) -> None:
        if self.state is not State.PREPARING or self.pending:
            return
        if all(member.joined is not None and not member.joined.done() for member in self.members.values()):
            self._begin()

    def _begin(self) -> None:
        """Begin a generation of those that have joined."""
        if self._deadline is not None:
            self._deadline.cancel()
        for member in list(self.members.values()):
            if member.joined is None or member.joined.done():
                self._forget(member)
        self.generation += 1
        members = list(self.members.values())
        if not members:
            self.state, self.protocol, self.leader = State.EMPTY, None, ""
            return
        self.state = State.COMPLETING
        common = self._common(members)
        # each member votes for the first of its own that all know
        votes = Counter(next(name for name, _ in member.said.protocols if name in common) for member in members)
        self.protocol = votes.most_common(1)[0][0]
        if self.leader not in self.members:
            self.leader = members[0].id
        for member in members:
            member.assignment = b""
            member.heard_at = self._now()
            if member.joined is not None:
                member.joined.set_result(None)

    def _remove(self, member: Member) -> None:
        self._forget(member)
        if self.state is State.PREPARING:
            if self.members:
                self._begin_if_all_joined()
            else:
                self._begin()
        elif self.members:
            self._prepare()
        else:
            self.generation += 1
            self.state, self.protocol, self.leader = State.EMPTY, None, ""

    def _forget(self, member: Member) -> None:
        del self.members[member.id]
        if member.timer is not None:
            member.timer.cancel()
        for future in (member.joined, member.synced):
            if future is not None and not future.done():
                future.set_exception(UnknownMemberIdError(member.id))

    # -- time

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _watch(self, member: Member, delay_s: float) -> None:
        member.timer = asyncio.get_running_loop().call_later(delay_s, self._expire, member)

    def _expire(self, member: Member) -> None:
        """Remove the member if its session is over; one timer looks again instead of one for every heartbeat."""
        session_s = member.said.session_ms / 1000
        left = session_s if member.waits else member.heard_at + session_s - self._now()
        if left > 0:
            self._watch(member, left)
        else:
            self._remove(member)

    def _await_pending(self, member_id: str, patience_s: float) -> None:
        def expire() -> None:
            del self.pending[member_id]
            self._begin_if_all_joined()

        self.pending[member_id] = asyncio.get_running_loop().call_later(patience_s, expire)


def _names(said: Joining) -> set[str]:
    return {name for name, _ in said.protocols}
