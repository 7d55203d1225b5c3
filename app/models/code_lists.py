"""Every enumeration of the API, for `/v1/code-lists`."""

from enum import StrEnum

from app.models.accounting.month_closes import MonthExceptionKind, MonthStatus
from app.models.accounting.reconciliation import Outcome
from app.models.audit.audit_entries import Use
from app.models.channels.bank_files import BankFormat, BankResultFormat
from app.models.channels.service_stations import StationStatus
from app.models.channels.station_settlements import SettlementStatus
from app.models.disbursement.payout_decisions import DecisionCause, DecisionChoice, DecisionStatus
from app.models.disbursement.payout_disputes import DisputeKind, DisputeStatus
from app.models.disbursement.payout_runs import Channel, RunStatus
from app.models.disbursement.payouts import PayoutOutcome, PayoutStatus, ResultStatus
from app.models.disbursement.vouchers import VoucherStatus
from app.models.events.attendance_flags import FlagRule
from app.models.events.attendances import BatchLineStatus, Method
from app.models.events.exam_rounds import RoundStatus
from app.models.events.excuses import ExcuseReason
from app.models.events.registrations import RegistrationStatus
from app.models.events.service_events import EventKind, EventStatus
from app.models.finance.funds import FundSource, FundStatus
from app.models.finance.transfers import Account, TransferKind
from app.models.goods.depots import DepotStatus
from app.models.goods.gifts import GiftStatus
from app.models.goods.stock_movements import EnteredKind, MovementKind, StockAccount
from app.models.goods.stock_takes import StockTakeStatus
from app.models.incentives.eligibility import RefusalReason, Standing
from app.models.incentives.incentive_policies import Reward
from app.models.lucky_draws.draw_winners import WinnerStatus
from app.models.lucky_draws.draws import DrawStatus
from app.models.membership.consents import ConsentMethod, ConsentState
from app.models.membership.corrections import CorrectionStatus, CorrectionSubject
from app.models.membership.members import MemberStatus
from app.models.membership.payout_accounts import AccountKind
from app.models.operations import OperationKind, OperationStatus, RowOutcome
from app.models.organisation.areas import Level, Provenance, SettingKey
from app.models.organisation.associations import AssociationStatus, Mode
from app.models.organisation.facilities import FacilityKind
from app.models.organisation.host_organisations import HostKind
from app.models.organisation.officers import Office
from app.models.organisation.regulations import RegulationKind
from app.models.privacy.privacy_notices import ConsentPurpose, DataCategory, Processing
from app.models.privacy.reveals import RevealField, RevealPurpose
from app.models.shapes import Output
from app.paging import Filters
from app.roles import Role

CODE_LISTS: dict[str, type[StrEnum]] = {
    "accounts": Account,
    "account-kinds": AccountKind,
    "area-levels": Level,
    "area-setting-keys": SettingKey,
    "association-modes": Mode,
    "association-statuses": AssociationStatus,
    "attendance-methods": Method,
    "bank-formats": BankFormat,
    "bank-result-formats": BankResultFormat,
    "batch-line-statuses": BatchLineStatus,
    "consent-methods": ConsentMethod,
    "consent-purposes": ConsentPurpose,
    "consent-states": ConsentState,
    "correction-statuses": CorrectionStatus,
    "correction-subjects": CorrectionSubject,
    "data-categories": DataCategory,
    "draw-statuses": DrawStatus,
    "draw-winner-statuses": WinnerStatus,
    "depot-statuses": DepotStatus,
    "eligibility-reasons": RefusalReason,
    "event-kinds": EventKind,
    "event-statuses": EventStatus,
    "excuse-reasons": ExcuseReason,
    "attendance-flag-rules": FlagRule,
    "facility-kinds": FacilityKind,
    "fund-sources": FundSource,
    "fund-statuses": FundStatus,
    "gift-statuses": GiftStatus,
    "host-kinds": HostKind,
    "import-outcomes": RowOutcome,
    "member-statuses": MemberStatus,
    "month-exception-kinds": MonthExceptionKind,
    "month-statuses": MonthStatus,
    "offices": Office,
    "operation-kinds": OperationKind,
    "operation-statuses": OperationStatus,
    "payout-channels": Channel,
    "payout-decision-causes": DecisionCause,
    "payout-decision-choices": DecisionChoice,
    "payout-decision-statuses": DecisionStatus,
    "payout-dispute-kinds": DisputeKind,
    "payout-dispute-statuses": DisputeStatus,
    "payout-outcomes": PayoutOutcome,
    "payout-result-statuses": ResultStatus,
    "payout-statuses": PayoutStatus,
    "processings": Processing,
    "provenances": Provenance,
    "reconciliation-outcomes": Outcome,
    "record-uses": Use,
    "registration-statuses": RegistrationStatus,
    "regulation-kinds": RegulationKind,
    "reveal-fields": RevealField,
    "reveal-purposes": RevealPurpose,
    "rewards": Reward,
    "roles": Role,
    "round-standings": Standing,
    "round-statuses": RoundStatus,
    "run-statuses": RunStatus,
    "settlement-statuses": SettlementStatus,
    "station-statuses": StationStatus,
    "stock-accounts": StockAccount,
    "stock-document-kinds": EnteredKind,
    "stock-movement-kinds": MovementKind,
    "stock-take-statuses": StockTakeStatus,
    "transfer-kinds": TransferKind,
    "voucher-statuses": VoucherStatus,
}


class CodeListFilters(Filters):
    """How the names of the code lists are paged."""


class CodeRead(Output):
    """One value of an enumeration with its words."""

    code: str
    zh: str
    en: str


class CodeListRead(Output):
    """An enumeration."""

    name: str
    codes: list[CodeRead]
