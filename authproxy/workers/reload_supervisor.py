"""The supervisor's side of a reload: what it has taken is what processes begin with from then on."""

from authproxy import logs
from authproxy.app.file_limits import raise_file_limit
from authproxy.app.tls import TLSContexts, tls_contexts
from authproxy.config.model import Config
from authproxy.errors import AuthproxyError
from authproxy.net.own_listeners import OwnListeners
from authproxy.workers.channel import Message
from authproxy.workers.reload import (
    NotPrepared,
    Share,
    State,
    close_shares,
    trouble_of,
    unpacked,
    with_addresses,
)


class Taker:
    """The supervisor's side: it takes the new state, and closes what nobody listens on any more."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._number = 0
        self._new: dict[int, Share] = {}

    @property
    def complete(self) -> bool:
        """Whether nothing more of a state is to come."""
        return not self._new

    def hear(self, message: Message, *, stopping: bool = False) -> Message | None:
        """Take a message; return the answer once the state is whole. Nothing is taken while `stopping`."""
        share = with_addresses(message)
        if message["number"] != self._number:  # a broker that died has left the rest unsaid
            self.drop()
            self._number = message["number"]
        if message["reload"] == "sockets":
            self._new[message["worker"]] = share
            return None
        answer = {"reload": "taken", "number": self._number}
        try:
            if stopping:
                raise NotPrepared("authproxy is stopping")
            config, own, authority = unpacked(message["config"])
            tls = tls_contexts(config, self._state.tls, authority)
            tls.begin()
        except (AuthproxyError, OSError) as error:
            close_shares([share])
            self.drop()
            return {**answer, "trouble": trouble_of(error)}
        self._take(config, tls, own, share)
        return answer

    def _take(self, config: Config, tls: TLSContexts, own: OwnListeners, admin: Share) -> None:
        state = self._state
        listeners = config.listeners
        for number, before in enumerate(state.shares):
            kept = [each for each in before if each[0] in listeners]
            close_shares([[each for each in before if each not in kept]])
            state.shares[number] = kept + self._new.get(number, [])
        self._new = {}
        self._take_admin(config, admin)
        state.config, state.tls, state.own, state.number = config, tls, own, self._number
        # Whoever is started from now on begins with these.
        logs.set_up(config.log.level, config.log.format)
        raise_file_limit(config)

    def _take_admin(self, config: Config, share: Share) -> None:
        state = self._state
        if not share and config.admin is not None:
            return  # it stays where it is
        if state.admin is not None:
            close_shares([[(state.admin[0], sock) for sock in state.admin[1]]])
        state.admin = (share[0][0], [sock for _, sock in share]) if share else None

    def drop(self) -> None:
        """Forget what has come of a state whose end will not come."""
        close_shares(self._new.values())
        self._new = {}
