-- Keys that end by themselves, and keys for one tenant alone.

alter table api_keys
    -- From when on it is refused.
    add column expires_at timestamptz,
    -- The one tenant whose part of the project it reaches.
    add column tenant text,
    -- What a restricted key may do. A version that knows of no restrictions reads
    -- `scopes`, which is empty then: to it such a key may do nothing.
    add column restricted_scopes text[] not null default '{}',
    add constraint api_keys_restricted_scopes
        check (scopes = '{}' or (expires_at is null and tenant is null));

-- What a key has made, to be asked when it is revoked.
create index audit_log_actor on audit_log (project_id, actor, id);
