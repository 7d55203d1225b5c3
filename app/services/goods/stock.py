"""Stock: what of each gift lies in which depot."""

from app.crypto import Keyring
from app.database import Statements
from app.identity import Caller
from app.models.goods.stock_movements import StockFilters
from app.paging import Key, Listing, Slice
from app.services.goods import depots

LISTING = Listing(
    columns=(
        "k.depot_id, d.name as depot_name, k.gift_id, g.code as gift_code, g.name as gift_name,"
        " g.unit, k.available, k.reserved, k.handed_out, k.received, k.transferred_in,"
        " k.transferred_out, k.written_off, k.adjusted"
    ),
    source=(
        "stock k join depots d on d.district_code = k.district_code and d.id = k.depot_id"
        " join gifts g on g.district_code = k.district_code and g.id = k.gift_id"
    ),
    order=(Key("depot_id", "k.depot_id", "uuid"), Key("gift_id", "k.gift_id", "uuid")),
)


async def list_stock(
    statements: Statements, caller: Caller, keyring: Keyring, *, filters: StockFilters
) -> Slice:
    """Give a page of what the depots within reach have."""
    where = depots.where_within(caller)
    where.add("k.district_code = :district_code and g.district_code = :district_code")
    where.equal("k.gift_id", "gift_id", filters.gift_id)
    where.equal("k.depot_id", "depot_id", filters.depot_id)
    where.in_area("d.area_code", filters.area)
    return await LISTING.page(statements.district_wide(), keyring, filters=filters, where=where)
