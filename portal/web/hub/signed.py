"""The portal's signature among the files of a model's revision, where the portal has a key."""

from __future__ import annotations

from portal.catalog.repositories import Revision
from portal.catalog.repository_files import RepoFile, in_order, made_file
from portal.client.attested import MODEL
from portal.errors import IntegrityError
from portal.exchange.attest import Portal, sign_revision
from portal.web.deps import Desk, as_json


def files_of(desk: Desk, revision: Revision) -> tuple[RepoFile, ...]:
    """The revision's files, with ``model.sig`` over exactly these where all of them are as they were published.

    A file of that name which was published with the checkpoint stays in its place. The signature is no part of what the
    commit follows from: another key changes no commit, and whoever has one from before has a good signature still.
    """
    if desk.key is None or not revision.whole or any(f.path == MODEL for f in revision.files):
        return revision.files
    kept, key = revision.facts.kept, ("signed", revision.commit, desk.key.public.key_id)
    if key not in kept:
        try:
            signature = sign_revision(revision, Portal(desk.settings.public_url, desk.key))
            kept[key] = in_order([*revision.files, made_file(MODEL, as_json(signature).decode())])
        except IntegrityError:
            kept[key] = revision.files
    files: tuple[RepoFile, ...] = kept[key]
    return files
