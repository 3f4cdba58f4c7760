-- Meters and what they have counted. Written in batches by the meter job, under
-- a lock on the meters' rows, and read by reports alone: with PostgreSQL down,
-- what is to be counted waits in DynamoDB.

create table meters (
    id text primary key,
    project_id text not null references projects (id),
    name text not null,
    description text not null default '',
    -- What it counts never changes: usage of two definitions would not add up.
    event_type text not null,
    aggregation text not null,
    value text,
    group_by text[] not null,
    -- JSON as it was given; not jsonb, which refuses some strings.
    filters text not null,
    -- Whether it is published as a CloudWatch metric.
    metric boolean not null,
    -- Events it matched and could not read a value of.
    skipped bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- A deleted one stays as a tombstone, so that a late projection cannot bring
    -- it back; its usage goes.
    deleted_at timestamptz,
    version bigint not null default 1,
    constraint meters_aggregation_known check (
        aggregation in ('count', 'sum', 'average', 'min', 'max', 'unique_count', 'latest')
    )
);
create index meters_project on meters (project_id, id);
create unique index meters_name_unique on meters (project_id, name) where deleted_at is null;

-- What has been counted: an event counts once for a meter, for as long as it is
-- kept. The day is that of its receipt, so that a day of it is dropped whole
-- when the last event of that day is gone. Partitions are made by the meter job.
create table usage_seen (
    meter_id text not null,
    event_id text not null,
    day date not null,
    primary key (meter_id, event_id, day)
) partition by list (day);

-- The groups of each meter, so that there are no more than meters.groups_max.
create table usage_groups (
    meter_id text not null,
    -- A JSON array of the values of group_by, or 'other'.
    grp text not null,
    primary key (meter_id, grp)
);

-- Usage in buckets of a minute, kept for 35 days, and of a quarter of an hour,
-- kept: hours and days of every time zone are made of quarters.
create table usage (
    meter_id text not null,
    -- Minutes: 1 or 15.
    grain smallint not null,
    bucket timestamptz not null,
    -- '' is none: a CloudEvents attribute is never empty.
    tenant text not null,
    grp text not null,
    count bigint not null,
    -- None of these where only events are counted.
    sum numeric,
    min numeric,
    max numeric,
    -- The value of the event with the latest time, then the largest id.
    latest numeric,
    latest_at timestamptz not null,
    latest_event text not null,
    primary key (meter_id, grain, bucket, tenant, grp)
);

-- The different values of unique counts: the first half of their SHA-256.
create table usage_unique (
    meter_id text not null,
    grain smallint not null,
    bucket timestamptz not null,
    tenant text not null,
    grp text not null,
    hash bytea not null,
    primary key (meter_id, grain, bucket, tenant, grp, hash)
);
