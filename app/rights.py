"""The rights as types, so that a route's signature says who may call it.

Those with `step_up` also need a sign-in of the last minutes.
"""

from typing import Annotated

from fastapi import Depends

from app.identity import Caller, Right, allowed

MayReadAreas = Annotated[Caller, Depends(allowed(Right.READ_AREAS))]
MaySetAreas = Annotated[Caller, Depends(allowed(Right.SET_AREAS))]
MayReadAssociations = Annotated[Caller, Depends(allowed(Right.READ_ASSOCIATIONS))]
MayWriteAssociations = Annotated[Caller, Depends(allowed(Right.WRITE_ASSOCIATIONS))]
MayGovernAssociations = Annotated[Caller, Depends(allowed(Right.GOVERN_ASSOCIATIONS))]
MayReadMembers = Annotated[Caller, Depends(allowed(Right.READ_MEMBERS))]
MayWriteMembers = Annotated[Caller, Depends(allowed(Right.WRITE_MEMBERS))]
MayRevealMembers = Annotated[Caller, Depends(allowed(Right.REVEAL_MEMBERS, step_up=True))]
MayEraseMembers = Annotated[Caller, Depends(allowed(Right.ERASE_MEMBERS))]
MayExportMembers = Annotated[Caller, Depends(allowed(Right.EXPORT_MEMBERS, step_up=True))]
MayReadRounds = Annotated[Caller, Depends(allowed(Right.READ_ROUNDS))]
MayWriteRounds = Annotated[Caller, Depends(allowed(Right.WRITE_ROUNDS))]
MayReadEvents = Annotated[Caller, Depends(allowed(Right.READ_EVENTS))]
MayWriteEvents = Annotated[Caller, Depends(allowed(Right.WRITE_EVENTS))]
MayRegister = Annotated[Caller, Depends(allowed(Right.REGISTER))]
MayReadRegistrations = Annotated[Caller, Depends(allowed(Right.READ_REGISTRATIONS))]
MayReadAttendances = Annotated[Caller, Depends(allowed(Right.READ_ATTENDANCES))]
MayCheckIn = Annotated[Caller, Depends(allowed(Right.CHECK_IN))]
MayCheckInSelf = Annotated[Caller, Depends(allowed(Right.CHECK_IN_SELF))]
MayVoidAttendances = Annotated[Caller, Depends(allowed(Right.VOID_ATTENDANCES))]
MayReadPolicies = Annotated[Caller, Depends(allowed(Right.READ_POLICIES))]
MayWritePolicies = Annotated[Caller, Depends(allowed(Right.WRITE_POLICIES))]
MayReadEligibility = Annotated[Caller, Depends(allowed(Right.READ_ELIGIBILITY))]
MayReadPayouts = Annotated[Caller, Depends(allowed(Right.READ_PAYOUTS))]
MayPreparePayouts = Annotated[Caller, Depends(allowed(Right.PREPARE_PAYOUTS))]
MaySubmitPayouts = Annotated[Caller, Depends(allowed(Right.SUBMIT_PAYOUTS))]
MayApprovePayouts = Annotated[Caller, Depends(allowed(Right.APPROVE_PAYOUTS, step_up=True))]
MayDisbursePayouts = Annotated[Caller, Depends(allowed(Right.DISBURSE_PAYOUTS))]
MayAnswerDisputes = Annotated[Caller, Depends(allowed(Right.ANSWER_DISPUTES))]
MayReadFunds = Annotated[Caller, Depends(allowed(Right.READ_FUNDS))]
MayWriteFunds = Annotated[Caller, Depends(allowed(Right.WRITE_FUNDS))]
MayReadDraws = Annotated[Caller, Depends(allowed(Right.READ_DRAWS))]
MayWriteDraws = Annotated[Caller, Depends(allowed(Right.WRITE_DRAWS))]
MayConfirmDraws = Annotated[Caller, Depends(allowed(Right.CONFIRM_DRAWS, step_up=True))]
MayReadNotices = Annotated[Caller, Depends(allowed(Right.READ_NOTICES))]
MayPublishNotices = Annotated[Caller, Depends(allowed(Right.PUBLISH_NOTICES))]
MayReadOwn = Annotated[Caller, Depends(allowed(Right.READ_OWN))]
MayWriteOwn = Annotated[Caller, Depends(allowed(Right.WRITE_OWN))]
MayReadOperations = Annotated[Caller, Depends(allowed(Right.READ_OPERATIONS))]
MayReadGrants = Annotated[Caller, Depends(allowed(Right.READ_GRANTS))]
MayWriteGrants = Annotated[Caller, Depends(allowed(Right.WRITE_GRANTS, step_up=True))]
MayReadAudit = Annotated[Caller, Depends(allowed(Right.READ_AUDIT))]
MayReadSightings = Annotated[Caller, Depends(allowed(Right.READ_SIGHTINGS))]
MayReadFlags = Annotated[Caller, Depends(allowed(Right.READ_FLAGS))]
MayComputeFlags = Annotated[Caller, Depends(allowed(Right.COMPUTE_FLAGS))]
MayReadCorrections = Annotated[Caller, Depends(allowed(Right.READ_CORRECTIONS))]
MayAnswerCorrections = Annotated[Caller, Depends(allowed(Right.ANSWER_CORRECTIONS))]
MayReadRetention = Annotated[Caller, Depends(allowed(Right.READ_RETENTION))]
