"""`/v1/privacy-notices`: what members are told before they consent, version by version."""

from typing import Annotated

from fastapi import Query, Request, Response

from app import concurrency, paging
from app.clock import Now
from app.crypto import Keys
from app.models.privacy.privacy_notices import (
    PrivacyNoticeCreate,
    PrivacyNoticeFilters,
    PrivacyNoticeRead,
)
from app.paging import Page
from app.problems import refusals
from app.rights import MayPublishNotices, MayReadNotices
from app.services.privacy import privacy_notices
from app.services.privacy.privacy_notices import NoticePublishedMeanwhile
from app.transactions import OneStatement, Session

router = concurrency.router("/privacy-notices", "privacy-notices")


@router.get("", summary="List privacy notices", response_model=Page[PrivacyNoticeRead])
async def list_privacy_notices(
    request: Request,
    statements: OneStatement,
    keyring: Keys,
    caller: MayReadNotices,
    filters: Annotated[PrivacyNoticeFilters, Query()],
) -> Response:
    """List the district's notices, by purpose and version; `on` narrows to those in force."""
    page = await privacy_notices.list_notices(statements, caller, keyring, filters=filters)
    return paging.answer(request, page)


@router.post(
    "",
    status_code=201,
    summary="Publish a privacy notice",
    responses=refusals(NoticePublishedMeanwhile),
)
async def create_privacy_notice(
    session: Session, caller: MayPublishNotices, body: PrivacyNoticeCreate, now: Now
) -> PrivacyNoticeRead:
    """Publish the next version for a purpose; it is never changed, only followed by another."""
    return await privacy_notices.publish(session, caller, body=body, now=now)
