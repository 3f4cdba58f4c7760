-- Event types with their schemas, limits on keys, and who changed what.

create table event_types (
    project_id text not null,
    name text not null,
    description text not null default '',
    -- What becomes of an event whose data does not satisfy the schema.
    validate text not null,
    -- Number of the schema in force; null without one.
    schema_version bigint,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- A deleted one stays as a tombstone, so that its version goes on counting.
    deleted_at timestamptz,
    -- Counts changes, so that a late projection never undoes a later one.
    version bigint not null default 1,
    primary key (project_id, name),
    constraint event_types_project_id_fkey foreign key (project_id) references projects (id),
    constraint event_types_name_length check (length(name) between 1 and 255),
    constraint event_types_validate_known check (validate in ('reject', 'warn', 'off')),
    constraint event_types_validate_needs_schema
        check (validate = 'off' or schema_version is not null)
);

-- Every schema a type ever had; those of a deleted type too, for its name may
-- come back and its numbers must go on.
create table event_type_schemas (
    project_id text not null,
    name text not null,
    version bigint not null,
    -- As it was given: jsonb would reorder it.
    schema text not null,
    created_at timestamptz not null,
    primary key (project_id, name, version),
    constraint event_type_schemas_type_fkey
        foreign key (project_id, name) references event_types (project_id, name),
    constraint event_type_schemas_bytes check (octet_length(schema) <= 65536)
);

-- Each points at the other, so one of them has to wait for the commit.
alter table event_types
    add constraint event_types_schema_fkey
    foreign key (project_id, name, schema_version)
    references event_type_schemas (project_id, name, version)
    deferrable initially deferred;

-- Events a second; the configured default if null.
alter table api_keys add column rate_limit integer;
alter table api_keys add constraint api_keys_rate_limit_range
    check (rate_limit between 1 and 1000000);

-- Who changed what, written in the transaction of the change and never after.
create table audit_log (
    -- Also the order: the newest has the highest.
    id bigint generated always as identity primary key,
    project_id text not null,
    at timestamptz not null,
    -- 'admin', an API key's id, or 'millrace' for what it did by itself.
    actor text not null,
    -- The noun and what was done to it: 'endpoint.update'.
    action text not null,
    -- What it was done to: an id, or an event type's name.
    subject text not null,
    -- What differed, without secrets; null where there was nothing, or nothing to show.
    before jsonb,
    after jsonb,
    constraint audit_log_project_id_fkey foreign key (project_id) references projects (id)
);
create index audit_log_project on audit_log (project_id, id);
create index audit_log_subject on audit_log (project_id, subject, id);
