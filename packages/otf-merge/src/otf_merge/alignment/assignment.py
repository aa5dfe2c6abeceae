"""The linear assignment problem: which column goes to which row, for the greatest sum.

Exact, in torch alone. An auction (Bertsekas 1988, "The auction algorithm") finds good prices of the
columns, in several stages that become finer. From these prices, shortest augmenting paths (Jonker
and Volgenant 1987) find the best assignment; they are short because the prices are nearly right.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from .units import Units

if TYPE_CHECKING:
    from torch import Tensor

# Of the auction: bids change prices by half the costs' standard deviation at least, in each stage
# by a fifth of that, and some three rows of a thousand need not find a column.
_FIRST, _FINER, _STAGES, _LEFT = 0.5, 5, 5, 0.003
# Rows that are all alike, as those of dead units, outbid each other in small steps for long. So many
# bids for each row are enough in a stage.
_BIDS = 200
# Below this size Python's own numbers are quicker than tensors of them.
_SMALL = 48


def assignment(similarity: Tensor) -> Tensor:
    """For each row the column assigned to it, each once, so that the sum of entries is greatest.

    `similarity` is `(n, n)`, finite; the result is int64 of shape `(n,)`. Of several that are
    equally good it is always the same one. The work is of order n^3 at most.
    """
    cost = -similarity.to(device="cpu", dtype=torch.float64)
    if len(cost) < _SMALL:
        return torch.tensor(_by_numbers(cost.tolist()), dtype=torch.int64)
    # By a power of two, which changes no digit: squares and sums of costs stay finite.
    cost *= math.ldexp(1, -math.frexp(float(cost.abs().max()))[1])
    return torch.tensor(_Paths(cost, _prices(cost)).solved())


def constrained_assignment(similarity: Tensor, units: Units) -> Tensor:
    """The best assignment among those that keep units within their blocks: `(n,)`.

    Where blocks may move, every pair of blocks is assigned within, and then the blocks.
    """
    if units.blocks == 1:
        return assignment(similarity)
    size = units.size // units.blocks
    blocks = similarity.reshape(units.blocks, size, units.blocks, size).transpose(1, 2)
    if not units.movable:
        within = [assignment(blocks[i, i]) + i * size for i in range(units.blocks)]
        return torch.cat(within)
    orders = [[assignment(blocks[i, j]) for j in range(units.blocks)] for i in range(units.blocks)]
    rows = torch.arange(size)
    sums = [
        [float(blocks[i, j][rows, it].sum()) for j, it in enumerate(orders[i])]
        for i in range(units.blocks)
    ]
    chosen = assignment(torch.tensor(sums, dtype=torch.float64)).tolist()
    return torch.cat([orders[i][j] + j * size for i, j in enumerate(chosen)])


def _by_numbers(cost: list[list[float]]) -> list[int]:
    """The same by plain numbers: shortest augmenting paths from each row in turn."""
    count = len(cost)
    u, v = [0.0] * count, [0.0] * count
    column_of, row_of = [-1] * count, [-1] * count
    for start in range(count):
        distance, before = [math.inf] * count, [-1] * count
        open_ = set(range(count))
        settled: list[tuple[int, float]] = []
        row, length = start, 0.0
        while row >= 0:
            costs, passed = cost[row], u[row] - length
            for column in open_:
                candidate = costs[column] - v[column] - passed
                if candidate < distance[column]:
                    distance[column], before[column] = candidate, row
            column = min(open_, key=distance.__getitem__)
            open_.discard(column)
            length, row = distance[column], row_of[column]
            settled.append((column, length))
        for reached, short in settled[:-1]:
            v[reached] += short - length
            u[row_of[reached]] += length - short
        u[start] += length
        while row != start:
            row = before[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
    return column_of


def _prices(cost: Tensor) -> Tensor:
    """The columns' prices by the auction, to be subtracted from their costs: `(n,)`."""
    prices = cost.min(0).values
    step = _FIRST * float(cost.std())
    if not step > 0:
        return prices
    for _ in range(_STAGES):
        prices = _auctioned(cost, prices, step)
        step /= _FINER
    return prices


def _auctioned(cost: Tensor, prices: Tensor, step: float) -> Tensor:
    count = len(cost)
    prices = prices.clone()
    owner = torch.full((count,), -1)
    holds = torch.zeros(count, dtype=torch.bool)
    bidders = torch.arange(count)
    bids = 0
    while len(bidders) > _LEFT * count and bids < _BIDS * count:
        bids += len(bidders)
        two = (cost[bidders] - prices).topk(2, dim=1, largest=False)
        column = two.indices[:, 0]
        bid = prices[column] - (two.values[:, 1] - two.values[:, 0]) - step
        best = torch.full((count,), math.inf, dtype=cost.dtype).scatter_reduce_(
            0, column, bid, "amin"
        )
        winning = bid == best[column]
        # Of equal bids the first row's counts.
        winner = torch.full((count,), count)
        winner.scatter_reduce_(0, column[winning], bidders[winning], "amin")
        sold = (winner < count).nonzero()[:, 0]
        losers = owner[sold]
        holds[losers[losers >= 0]] = False
        owner[sold] = winner[sold]
        holds[winner[sold]] = True
        prices[sold] = best[sold]
        bidders = (~holds).nonzero()[:, 0]
    return prices


class _Paths:
    """Shortest augmenting paths, row by row.

    Invariant: `cost - u - v` is nowhere negative and zero where a row has its column, which makes
    a complete assignment the best one.
    """

    def __init__(self, cost: Tensor, v: Tensor) -> None:
        self.cost = cost
        self.v = v
        reduced = cost - v
        self.u = reduced.min(1).values
        self.column_of = [-1] * len(cost)
        self.row_of = [-1] * len(cost)
        for row, column in (reduced == self.u.unsqueeze(1)).nonzero().tolist():
            if self.column_of[row] < 0 and self.row_of[column] < 0:
                self.column_of[row], self.row_of[column] = column, row

    def solved(self) -> list[int]:
        for row in range(len(self.cost)):
            if self.column_of[row] < 0:
                self._augment(row)
        return self.column_of

    def _augment(self, start: int) -> None:
        """Dijkstra's search from a free row to the nearest free column, and the path taken."""
        cost, u = self.cost, self.u
        # A column that is settled is moved out of reach.
        v = self.v.clone()
        distance = (cost[start] - v).sub_(u[start])
        before = torch.full((len(cost),), start)
        candidate = torch.empty_like(distance)
        nearer = torch.empty(len(cost), dtype=torch.bool)
        settled: list[int] = []
        distances: list[float] = []
        free = torch.tensor([it for it, row in enumerate(self.row_of) if row < 0])
        while True:
            least, at = torch.min(distance, 0)
            # Where many are equally near, as with units that are dead, a free one ends the search.
            nearest, place = torch.min(distance[free], 0)
            if nearest <= least:
                column, length = int(free[place].item()), float(nearest.item())
                break
            column, length = int(at.item()), float(least.item())
            row = self.row_of[column]
            settled.append(column)
            distances.append(length)
            distance[column], v[column] = math.inf, -math.inf
            torch.sub(cost[row], v, out=candidate)
            candidate.add_(length - u[row].item())
            torch.lt(candidate, distance, out=nearer)
            before.masked_fill_(nearer, row)
            torch.minimum(distance, candidate, out=distance)
        self._shift(start, settled, distances, length)
        self._take(start, column, before.tolist())

    def _shift(self, start: int, settled: list[int], distances: list[float], length: float) -> None:
        if settled:
            short = torch.tensor(distances, dtype=self.cost.dtype) - length
            self.v[torch.tensor(settled)] += short
            self.u[torch.tensor([self.row_of[column] for column in settled])] -= short
        self.u[start] += length

    def _take(self, start: int, column: int, before: list[int]) -> None:
        row = -1
        while row != start:
            row = before[column]
            self.row_of[column] = row
            self.column_of[row], column = column, self.column_of[row]
