"""What `/metrics` counts, by route template and never by person."""

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("jixie_requests", "Requests answered.", ["method", "route", "status"])
SECONDS = Histogram(
    "jixie_request_seconds",
    "Time to answer.",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12),
)
IN_FLIGHT = Gauge("jixie_requests_in_flight", "Requests under way.")
MESSAGES = Counter("jixie_messages", "Text messages by what became of them.", ["outcome"])
OPERATIONS = Counter("jixie_operations", "Operations ended.", ["kind", "status"])
RETENTION = Counter(
    "jixie_retention_rows", "Rows deleted or cleared when their time was over.", ["table", "act"]
)
CORRECTIONS_OVERDUE = Gauge(
    "jixie_corrections_overdue", "Members' corrections not answered in time.", ["district"]
)
BOOKS_DISAGREEING = Gauge(
    "jixie_books_disagreeing", "Records that did not agree at the night's check.", ["district"]
)
GATEWAY_PAYMENTS = Counter(
    "jixie_gateway_payments", "Payments over the gateway by what became of them.", ["outcome"]
)
GATEWAY_UNKNOWN = Gauge(
    "jixie_gateway_unknown", "Payments over the gateway that wait for a person.", ["district"]
)
GATEWAY_STATEMENT_DIFFERS = Gauge(
    "jixie_gateway_statement_differs", "1 if the gateway's statement of yesterday is not our own."
)
VOUCHERS = Counter("jixie_vouchers", "Vouchers by what became of a code or a day.", ["outcome"])


@lru_cache(maxsize=4096)
def of_request(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Give what counts the requests of a route, and what their times, found once."""
    return REQUESTS.labels(method, route, status), SECONDS.labels(method, route)
