"""The books of every district, checked for `jixie books check`."""

from app.database import Database, Door
from app.services.accounting import books
from app.services.organisation import areas


async def check(database: Database) -> list[str]:
    """Give a line for each record that does not agree with another; none while the books do."""
    door = Door(database)
    found: list[str] = []
    for district_code in await areas.list_districts(door.looking):
        async with door.transaction(district_code, name="check_books") as session:
            disagreeing = await books.check(session, district_code=district_code)
        found += [
            f"{each.question} {each.subject}: expected {each.expected}, found {each.found}"
            for each in disagreeing
        ]
    return found
