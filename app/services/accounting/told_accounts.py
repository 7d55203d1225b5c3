"""What readers without the records are told of accounts: all in round figures, or how many people.

Prices are public, so that an amount can be solved for people, also a rounded one where ten of them
get more than it was rounded by. So an amount is told only as what whole tens of people got for each
price, and nothing where a group of fewer than ten is in a figure or beside it. Who knows all
members of an association would know of each that she came, were almost all of them told.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from app.models.accounting.accounts import Figures, Received
from app.models.events.service_events import TEN

_Cell = TypeVar("_Cell", bound=Received)


def fewest_of(total: int, groups: Iterable[int]) -> int:
    """Give the size of the smallest group that is told apart: a part of the total, or the rest."""
    sizes = [size for part in groups for size in (part, total - part) if size > 0]
    return min([total, *sizes])


def told_of(figures: Figures, amounts: Mapping[str, int], *, fewest: int, beside: int) -> Figures:
    """Round all figures, or, where the smallest group has fewer than ten, withhold all but people.

    The amounts are those of whole tens, by the names of their cells. Of nobody no more is told
    than of a few, or a part that appears would say that somebody came. Where of the members fewer
    than ten are `beside` those who received, not even how many people is told.
    """
    if beside < TEN:
        return untold(figures)
    if fewest < TEN:
        return withheld(figures)
    return Figures(
        event_count=figures.event_count,
        total=_rounded(figures.total, amounts["total"]),
        by_kind=[_rounded(cell, amounts[f"kind {cell.event_kind}"]) for cell in figures.by_kind],
        by_source=[_rounded(cell, amounts[f"source {cell.source}"]) for cell in figures.by_source],
    )


def repeated(told: Figures) -> Figures:
    """Tell again what was told; with the amount withheld, nothing of its parts."""
    return told if told.total.people and told.total.amount_fen is not None else withheld(told)


def is_near(former: Figures, later: Figures) -> bool:
    """Tell whether two editions, subtracted, would tell of fewer than ten people, or of nobody.

    Where an amount alone differs nobody knows of how many. Of the same figures the same is told,
    whoever was enrolled between the editions.
    """
    one, other = _cells(former), _cells(later)
    nothing = Received(people=0, amount_fen=0)
    return one == other or any(
        _differ_by_few(one.get(name, nothing), other.get(name, nothing))
        for name in one.keys() | other.keys()
    )


def _differ_by_few(one: Received, other: Received) -> bool:
    apart = abs((one.people or 0) - (other.people or 0))
    return apart < TEN and one != other


def _cells(figures: Figures) -> Mapping[str, Received]:
    cells: dict[str, Received] = {"total": _plain(figures.total)}
    cells |= {f"kind {cell.event_kind}": _plain(cell) for cell in figures.by_kind}
    return cells | {f"source {cell.source}": _plain(cell) for cell in figures.by_source}


def _plain(cell: Received) -> Received:
    return Received(people=cell.people, amount_fen=cell.amount_fen)


def _rounded(cell: _Cell, amount_fen: int) -> _Cell:
    return cell.model_copy(update={"people": _tens(cell.people), "amount_fen": amount_fen})


def withheld(figures: Figures) -> Figures:
    """Tell of how many tens of people an edition is, and nothing else."""
    total = Received(people=_tens(figures.total.people) or None, amount_fen=None)
    return untold(figures).model_copy(update={"total": total})


def untold(figures: Figures) -> Figures:
    """Tell how many events there were, and of people nothing."""
    nothing = Received(people=None, amount_fen=None)
    return Figures(event_count=figures.event_count, total=nothing, by_kind=[], by_source=[])


def _tens(people: int | None) -> int:
    return (people or 0) // TEN * TEN
