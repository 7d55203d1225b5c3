"""The rights as types, so that a route's signature says who may call it.

Those with `step_up` also need a sign-in of the last minutes: for what costs most, and for whole
files with personal data of others.
"""

from typing import Annotated

from fastapi import Depends

from app.identity import Allowed, Caller
from app.roles import Right

MayReadAreas = Annotated[Caller, Depends(Allowed(Right.READ_AREAS))]
MaySetAreas = Annotated[Caller, Depends(Allowed(Right.SET_AREAS))]
MayReadAssociations = Annotated[Caller, Depends(Allowed(Right.READ_ASSOCIATIONS))]
MayWriteAssociations = Annotated[Caller, Depends(Allowed(Right.WRITE_ASSOCIATIONS))]
MayGovernAssociations = Annotated[Caller, Depends(Allowed(Right.GOVERN_ASSOCIATIONS))]
MayReadMembers = Annotated[Caller, Depends(Allowed(Right.READ_MEMBERS))]
MayWriteMembers = Annotated[Caller, Depends(Allowed(Right.WRITE_MEMBERS))]
MayRevealMembers = Annotated[Caller, Depends(Allowed(Right.REVEAL_MEMBERS, step_up=True))]
MayEraseMembers = Annotated[Caller, Depends(Allowed(Right.ERASE_MEMBERS, step_up=True))]
MayExportMembers = Annotated[Caller, Depends(Allowed(Right.EXPORT_MEMBERS, step_up=True))]
MayHandOutCopies = Annotated[
    Caller, Depends(Allowed(Right.EXPORT_MEMBERS, step_up=True, of_members=True))
]
MayReadRounds = Annotated[Caller, Depends(Allowed(Right.READ_ROUNDS))]
MayWriteRounds = Annotated[Caller, Depends(Allowed(Right.WRITE_ROUNDS))]
MayReadEvents = Annotated[Caller, Depends(Allowed(Right.READ_EVENTS))]
MayWriteEvents = Annotated[Caller, Depends(Allowed(Right.WRITE_EVENTS))]
MayRegister = Annotated[Caller, Depends(Allowed(Right.REGISTER))]
MayReadRegistrations = Annotated[Caller, Depends(Allowed(Right.READ_REGISTRATIONS))]
MayReadAttendances = Annotated[Caller, Depends(Allowed(Right.READ_ATTENDANCES))]
MayCheckIn = Annotated[Caller, Depends(Allowed(Right.CHECK_IN))]
MayCheckInSelf = Annotated[Caller, Depends(Allowed(Right.CHECK_IN_SELF))]
MayVoidAttendances = Annotated[Caller, Depends(Allowed(Right.VOID_ATTENDANCES))]
MayReadPolicies = Annotated[Caller, Depends(Allowed(Right.READ_POLICIES))]
MayWritePolicies = Annotated[Caller, Depends(Allowed(Right.WRITE_POLICIES))]
MayReadEligibility = Annotated[Caller, Depends(Allowed(Right.READ_ELIGIBILITY))]
MayReadPayouts = Annotated[Caller, Depends(Allowed(Right.READ_PAYOUTS))]
MayPreparePayouts = Annotated[Caller, Depends(Allowed(Right.PREPARE_PAYOUTS))]
MaySubmitPayouts = Annotated[Caller, Depends(Allowed(Right.SUBMIT_PAYOUTS))]
MayApprovePayouts = Annotated[Caller, Depends(Allowed(Right.APPROVE_PAYOUTS, step_up=True))]
MayDisbursePayouts = Annotated[Caller, Depends(Allowed(Right.DISBURSE_PAYOUTS))]
MayAnswerDisputes = Annotated[Caller, Depends(Allowed(Right.ANSWER_DISPUTES))]
MayUseAccounts = Annotated[Caller, Depends(Allowed(Right.DISBURSE_PAYOUTS, step_up=True))]
MayPrintPayouts = Annotated[Caller, Depends(Allowed(Right.READ_PAYOUTS, step_up=True))]
MayReadFunds = Annotated[Caller, Depends(Allowed(Right.READ_FUNDS))]
MayWriteFunds = Annotated[Caller, Depends(Allowed(Right.WRITE_FUNDS))]
MayReadDraws = Annotated[Caller, Depends(Allowed(Right.READ_DRAWS))]
MayWriteDraws = Annotated[Caller, Depends(Allowed(Right.WRITE_DRAWS))]
MayConfirmDraws = Annotated[Caller, Depends(Allowed(Right.CONFIRM_DRAWS, step_up=True))]
MayReadStations = Annotated[Caller, Depends(Allowed(Right.READ_STATIONS))]
MayWriteStations = Annotated[Caller, Depends(Allowed(Right.WRITE_STATIONS))]
MayRedeemVouchers = Annotated[Caller, Depends(Allowed(Right.REDEEM_VOUCHERS))]
MayReadGifts = Annotated[Caller, Depends(Allowed(Right.READ_GIFTS))]
MayWriteGifts = Annotated[Caller, Depends(Allowed(Right.WRITE_GIFTS))]
MayHandOutGifts = Annotated[Caller, Depends(Allowed(Right.HAND_OUT_GIFTS))]
MayMoveStock = Annotated[Caller, Depends(Allowed(Right.MOVE_STOCK))]
MayConfirmStock = Annotated[Caller, Depends(Allowed(Right.CONFIRM_STOCK, step_up=True))]
MayReadForecasts = Annotated[Caller, Depends(Allowed(Right.READ_FORECASTS))]
MayCloseMonths = Annotated[Caller, Depends(Allowed(Right.CLOSE_MONTHS, step_up=True))]
MayReadNotices = Annotated[Caller, Depends(Allowed(Right.READ_NOTICES))]
MayPublishNotices = Annotated[Caller, Depends(Allowed(Right.PUBLISH_NOTICES))]
MayReadOwn = Annotated[Caller, Depends(Allowed(Right.READ_OWN))]
MayWriteOwn = Annotated[Caller, Depends(Allowed(Right.WRITE_OWN))]
MayReadOperations = Annotated[Caller, Depends(Allowed(Right.READ_OPERATIONS))]
MayFetchRows = Annotated[Caller, Depends(Allowed(Right.READ_OPERATIONS, step_up=True))]
MayReadGrants = Annotated[Caller, Depends(Allowed(Right.READ_GRANTS))]
MayWriteGrants = Annotated[Caller, Depends(Allowed(Right.WRITE_GRANTS, step_up=True))]
MayReadAudit = Annotated[Caller, Depends(Allowed(Right.READ_AUDIT))]
MayReadSightings = Annotated[Caller, Depends(Allowed(Right.READ_SIGHTINGS))]
MayReadFlags = Annotated[Caller, Depends(Allowed(Right.READ_FLAGS))]
MayComputeFlags = Annotated[Caller, Depends(Allowed(Right.COMPUTE_FLAGS))]
MayReadCorrections = Annotated[Caller, Depends(Allowed(Right.READ_CORRECTIONS))]
MayAnswerCorrections = Annotated[Caller, Depends(Allowed(Right.ANSWER_CORRECTIONS))]
MayReadRetention = Annotated[Caller, Depends(Allowed(Right.READ_RETENTION))]
