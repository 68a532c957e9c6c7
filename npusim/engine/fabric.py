"""Shared pools (HBM, L2, an L1 port), divided max-min fairly among the transfers in flight."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import simpy

from npusim.program import SAME_TIME


class Flight:
    """A transfer in flight. `remaining` cycles at full speed; at speed 1 it moves `weight` bytes/cycle."""

    __slots__ = ("eta", "landed", "pools", "remaining", "speed", "weight")

    def __init__(
        self, remaining: float, weight: float, pools: Sequence[Hashable], landed: simpy.Event
    ) -> None:
        self.remaining, self.weight, self.pools, self.landed = remaining, weight, pools, landed
        self.speed = 1.0
        self.eta = 0.0


class Fabric:
    """All transfers of the chip. Rates change only when a transfer starts or lands."""

    def __init__(self, env: simpy.Environment, capacity: Mapping[str, float]) -> None:
        self.env, self.capacity = env, capacity
        self.flights: list[Flight] = []
        self.since = 0.0
        self.timer = 0

    def begin(self, cycles: float, weight: float, pools: Sequence[Hashable]) -> simpy.Event:
        """Start a transfer of `cycles` at full speed; the event fires when it has landed."""
        flight = Flight(cycles, weight, pools, self.env.event())
        self._advance()
        self.flights.append(flight)
        self._arm()
        return flight.landed

    def _advance(self) -> None:
        elapsed = self.env.now - self.since
        if elapsed:
            for flight in self.flights:
                flight.remaining = max(0.0, flight.remaining - elapsed * flight.speed)
        self.since = self.env.now

    def _arm(self) -> None:
        """Recompute all speeds and set the clock for the next landing."""
        self._share()
        self.timer += 1
        if not self.flights:
            return
        for flight in self.flights:
            flight.eta = self.since + flight.remaining / flight.speed
        delay = min(flight.eta for flight in self.flights) - self.since
        timeout = self.env.timeout(delay, self.timer)
        assert timeout.callbacks is not None
        timeout.callbacks.append(self._land)

    def _land(self, timeout: simpy.Event) -> None:
        if timeout.value != self.timer:
            return  # the speeds changed meanwhile; a later clock is set
        horizon = self.env.now * (1 + SAME_TIME)
        landing = [flight for flight in self.flights if flight.eta <= horizon]
        self._advance()
        self.flights = [flight for flight in self.flights if flight.eta > horizon]
        self._arm()
        for flight in landing:
            flight.landed.succeed()

    def _share(self) -> None:
        """Progressive filling: raise all rates together; freeze what meets its own cap or a full pool."""
        members: dict[Hashable, list[Flight]] = {}
        for flight in self.flights:
            flight.speed = 1.0
            for pool in flight.pools:
                members.setdefault(pool, []).append(flight)
        left = {pool: self._capacity(pool) for pool in members}
        if all(sum(f.weight for f in flights) <= left[pool] for pool, flights in members.items()):
            return
        open_flights = set(self.flights)
        while open_flights:
            level, full = min(
                (left[pool] / count, id(flights), pool)
                for pool, flights in members.items()
                if (count := sum(f in open_flights for f in flights))
            )[::2]
            frozen = [f for f in open_flights if f.weight <= level]
            if not frozen:
                frozen = [f for f in members[full] if f in open_flights]
            for flight in frozen:
                rate = min(flight.weight, level)
                flight.speed = rate / flight.weight
                for pool in flight.pools:
                    left[pool] = max(0.0, left[pool] - rate)
                open_flights.discard(flight)

    def _capacity(self, pool: Hashable) -> float:
        name = pool[0] if isinstance(pool, tuple) else pool
        return self.capacity[str(name)]
