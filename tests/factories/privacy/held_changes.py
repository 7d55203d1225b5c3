"""Held changes: the clock's errands for them, and the passing of their time."""

from fastapi import FastAPI

from app import errands
from app.database import Database, Door


async def run_errands(app: FastAPI) -> None:
    """Do what is due in each district, once."""
    state = app.state
    await errands.run(Door(state.database), state.keyring, state.settings, state.messenger.provider)


async def pass_by(owner: Database, hours: int = 72) -> None:
    """Let time pass for all that is held."""
    await owner.pool.execute(
        "update held_changes set requested_at = requested_at - make_interval(hours => $1),"
        " in_force_at = in_force_at - make_interval(hours => $1),"
        " noticed_at = noticed_at - make_interval(hours => $1)",
        hours,
    )
