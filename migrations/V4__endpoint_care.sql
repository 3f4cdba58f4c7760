-- How each endpoint is called. Every column has a default or may be null, so that
-- a version that knows none of them goes on creating endpoints.

alter table endpoints
    -- Attempts a second by all processes together.
    add column rate_limit integer,
    -- Attempts at once by one process.
    add column max_concurrency integer,
    -- What the body of a webhook is: 'cloudevents' or 'data'.
    add column body_format text not null default 'cloudevents',
    -- Headers, HTTP authentication and client certificate: AES-256-GCM under the
    -- key ring, bound to the endpoint's id; useless without it.
    add column extras_sealed bytea,
    -- What people may see of that: names, a kind, a fingerprint.
    add column extras_shown jsonb not null default '{}',
    -- When it was last turned on; null for one that always was.
    add column enabled_at timestamptz,
    add constraint endpoints_rate_limit_range check (rate_limit between 1 and 1000),
    add constraint endpoints_max_concurrency_range check (max_concurrency between 1 and 1000),
    add constraint endpoints_body_format_known check (body_format in ('cloudevents', 'data'));

-- 'failed': nothing but failures for days. A version that does not know it takes
-- such an endpoint for unreadable and leaves its deliveries waiting; there is none
-- before this one has run for that many days.
alter table endpoints drop constraint endpoints_state_known;
alter table endpoints add constraint endpoints_state_known
    check (state in ('enabled', 'disabled', 'gone', 'failed', 'deleted'));
