-- The control plane: what people configure. Accepting and delivering events
-- never reads it; every change is projected to DynamoDB by way of the outbox.

create table projects (
    id text primary key,
    name text not null,
    created_at timestamptz not null,
    constraint projects_name_unique unique (name),
    constraint projects_name_length check (length(name) between 1 and 100)
);

create table api_keys (
    id text primary key,
    project_id text not null references projects (id),
    name text not null,
    -- SHA-256 of the key; the key itself is nowhere.
    hash bytea not null,
    -- The key's beginning, to tell keys apart.
    hint text not null,
    scopes text[] not null,
    created_at timestamptz not null,
    revoked_at timestamptz,
    -- Counts changes, so that a late projection never undoes a later one.
    version bigint not null default 1,
    constraint api_keys_hash_unique unique (hash)
);
create index api_keys_project on api_keys (project_id, id);

create table endpoints (
    id text primary key,
    project_id text not null references projects (id),
    url text not null,
    description text not null default '',
    event_types text[] not null,
    tenant text,
    -- enabled, disabled, gone or deleted; a deleted one stays as a tombstone.
    state text not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    version bigint not null default 1,
    constraint endpoints_state_known check (state in ('enabled', 'disabled', 'gone', 'deleted'))
);
create index endpoints_project on endpoints (project_id, id);

create table endpoint_secrets (
    endpoint_id text not null references endpoints (id),
    -- Counts up; the highest is the current one.
    number bigint not null,
    -- AES-256-GCM under the key ring; useless without it.
    sealed bytea not null,
    created_at timestamptz not null,
    -- When a rotated secret stops signing.
    expires_at timestamptz,
    primary key (endpoint_id, number)
);

-- What has changed and is not projected yet. Written in the transaction of the
-- change, deleted once projected, found by the sweeper when that failed.
create table outbox (
    id bigint generated always as identity primary key,
    -- 'endpoint' or 'api_key'.
    kind text not null,
    subject_id text not null,
    created_at timestamptz not null default now()
);
