-- Erasures: what was asked to be deleted for good, how far that is, and what it came
-- to. A row outlives what it is about, which is why it refers to nothing.

create table erasures (
    id text primary key,
    project_id text not null,
    -- 'project', 'tenant' or 'event'.
    kind text not null,
    -- The tenant or the event's id; null for a project, and once a tenant is erased.
    subject text,
    -- When an event was received: the day under which it may be archived.
    received_at timestamptz,
    -- 'running', 'settling' (waits for the last look) or 'done'.
    state text not null,
    -- The part that comes next, and where in it.
    step text not null,
    position text,
    events bigint not null default 0,
    deliveries bigint not null default 0,
    readings bigint not null default 0,
    endpoints bigint not null default 0,
    recoveries bigint not null default 0,
    archived_objects bigint not null default 0,
    usage_rows bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- When it goes on; also the token of whoever has claimed it.
    due_at timestamptz not null,
    finished_at timestamptz,
    constraint erasures_kind_known check (kind in ('project', 'tenant', 'event')),
    constraint erasures_state_known check (state in ('running', 'settling', 'done'))
);
create index erasures_project on erasures (project_id, id);
create index erasures_due on erasures (due_at) where state <> 'done';
-- Who asks again while one runs is told of that one. By a digest: a tenant's name may
-- be longer than what an index can hold.
create unique index erasures_running on erasures (project_id, kind, md5(coalesce(subject, '')))
    where state <> 'done';

-- From when on a project is there for its erasure alone. A version that does not know
-- it finds the project without keys.
alter table projects add column erased_at timestamptz;

-- The audit log says who erased a project after its row is gone.
alter table audit_log drop constraint audit_log_project_id_fkey;

