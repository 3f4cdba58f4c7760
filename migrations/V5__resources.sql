-- What people know a resource by: an endpoint's own id, and metadata of their own.
-- Every column has a default or may be null, so that a version that knows none of
-- them goes on creating and changing the same rows.

alter table endpoints
    add column uid text,
    -- What a webhook's Content-Type is, where its body is the whole event.
    add column content_type text not null default 'application/cloudevents+json',
    add column metadata jsonb not null default '{}',
    add constraint endpoints_uid_form
        check (uid ~ '^[A-Za-z0-9._-]+$' and length(uid) <= 256 and uid !~ '^ep_'),
    add constraint endpoints_content_type_known
        check (content_type in ('application/cloudevents+json', 'application/json'));

-- A deleted endpoint gives its uid back.
create unique index endpoints_uid_unique on endpoints (project_id, uid)
    where uid is not null and state <> 'deleted';

alter table event_types add column metadata jsonb not null default '{}';
alter table meters add column metadata jsonb not null default '{}';
