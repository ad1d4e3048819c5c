"""Keys of the portal, and publishers' signatures over releases."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from portal.catalog.answers.signatures import PortalKeys, PortalKeyView, SignatureView
from portal.catalog.audit.writing import OPERATOR, PORTAL, put_on_record
from portal.catalog.files import FileRow, load_files
from portal.catalog.paging import check_text
from portal.catalog.release import load_facts
from portal.catalog.revisions import bump_revision
from portal.database import Engine, open_session
from portal.errors import NotFound
from portal.models import PortalKey, Release, ReleaseSignature, Run

PORTAL_PROVES = (
    "A signature of this portal proves that the listed bytes are those this portal catalogued, and that they were not "
    "altered since. It does not prove that the training really took place as described."
)
PUBLISHER_PROVES = (
    "It proves that the holder of this key vouches for exactly the listed bytes. It does not prove who that is, nor that "
    "the training really took place as described."
)
ALGORITHM = "ecdsa-p256-sha256"
_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True)
class SignableRelease:
    """What a publisher signs of the current version of a run."""

    release_id: int
    version: int
    manifest: str
    """Canonical JSON."""
    root: str
    files: list[FileRow]


def record_portal_key(engine: Engine, key_id: str, public_key: str) -> None:
    """Remember a key the portal signs with; nothing where it is known."""
    with open_session(engine) as session:
        if session.get(PortalKey, key_id) is None:
            values = {"key_id": key_id, "public_key": public_key, "first_used_at": datetime.now(UTC)}
            insert = _INSERTS[engine.dialect.name](PortalKey).values(values)
            added = session.execute(
                insert.on_conflict_do_nothing(index_elements=["key_id"]).returning(col(PortalKey.key_id))
            )
            if added.scalar() is not None:
                put_on_record(session, "key.added", PORTAL, f"key:{key_id}")
            session.commit()


def list_portal_keys(session: Session, current: str | None) -> PortalKeys:
    """Every key the portal ever signed with; ``current`` is the id of the one it signs with now."""
    rows = session.exec(select(PortalKey).order_by(col(PortalKey.first_used_at).desc(), col(PortalKey.key_id))).all()
    views = [PortalKeyView(r.key_id, ALGORITHM, r.public_key, r.first_used_at, r.key_id == current) for r in rows]
    return PortalKeys(sorted(views, key=lambda v: not v.current), PORTAL_PROVES)


def get_public_key(session: Session, key_id: str) -> str:
    """PEM of a key the portal ever signed with; NotFound for any other."""
    row = session.get(PortalKey, check_text(key_id, "key_id"))
    if row is None:
        raise NotFound(f"This portal never signed with key {key_id[:64]}.", "/.well-known/portal-keys lists its keys.")
    return row.public_key


def find_signable(session: Session, run: str) -> SignableRelease:
    """The current version of a run with its files."""
    head = load_facts(session, run).head
    manifest = session.exec(select(Release.manifest).where(Release.id == head.id)).one()
    return SignableRelease(head.id, head.version, manifest, head.root, load_files(session, head.id))


def record_signature(session: Session, release: SignableRelease, signature: dict[str, Any], by: str = OPERATOR) -> bool:
    """Keep a publisher's signature; False where this key signed the release before, and that one stays."""
    values = {"release_id": release.release_id, "signed_at": datetime.now(UTC), **signature}
    insert = _INSERTS[session.get_bind().dialect.name](ReleaseSignature).values(values)
    kept = insert.on_conflict_do_nothing(index_elements=["release_id", "key_id"]).returning(col(ReleaseSignature.id))
    new = session.execute(kept).first() is not None
    bump_revision(session, release.release_id)
    if new:
        owner = select(Run.org, Run.name).join(Release, col(Release.run_id) == col(Run.id))
        run = "/".join(session.exec(owner.where(Release.id == release.release_id)).one())
        told = {"key": signature["key_id"], "files": signature["files"]}
        put_on_record(session, "release.signed", by, f"release:{run}@{release.version}", run, told)
    return new


def list_signatures(session: Session, run: str) -> list[SignatureView]:
    """Publishers' signatures over the current version of a run, the earliest first."""
    head = load_facts(session, run).head
    statement = select(ReleaseSignature).where(ReleaseSignature.release_id == head.id)
    rows = session.exec(statement.order_by(col(ReleaseSignature.signed_at), col(ReleaseSignature.id))).all()
    return [
        SignatureView(
            run=run,
            version=head.version,
            key_id=row.key_id,
            public_key=row.public_key,
            signed_at=row.signed_at,
            files=row.files,
            unsigned=[str(path) for path in row.unsigned],
            url=f"/api/v1/runs/{run}/signatures/{row.key_id}",
            proves=PUBLISHER_PROVES,
        )
        for row in rows
    ]


def signer_ids(session: Session, release_id: int) -> list[str]:
    """Ids of the keys with which publishers signed a release."""
    signed = select(ReleaseSignature.key_id).where(ReleaseSignature.release_id == release_id)
    return list(session.exec(signed.order_by(col(ReleaseSignature.id))).all())


def get_signature(session: Session, run: str, key_id: str) -> str:
    """The signature of one key over the current version as it was made; NotFound where it made none."""
    head = load_facts(session, run).head
    statement = select(ReleaseSignature.bundle).where(
        ReleaseSignature.release_id == head.id, ReleaseSignature.key_id == check_text(key_id, "key_id")
    )
    found = session.exec(statement).first()
    if found is None:
        raise NotFound(
            f"Key {key_id[:64]} signed no current release of {run}.", f"/api/v1/runs/{run}/signatures lists them."
        )
    return found
