-- The audit log is only added to, and the role that serves needs no right to change
-- the schema: what it made and dropped of it, the days of usage_seen, the owner's
-- functions do for it. Versions before this one log in as the owner and go on as they
-- did.

-- An entry may be of no project: a login as the admin that was refused.
alter table audit_log alter column project_id drop not null;

-- Holds for the owner too, who has to take the trigger away before; that the role
-- that serves may not even try is in its grants.
create function audit_log_refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'audit_log is only added to' using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_log_append_only before update or delete or truncate on audit_log
    for each statement execute function audit_log_refuse_change();

-- With the search path of its maker fixed, so that no table of the caller's can take
-- the place of one of ours.
do $do$
begin
    execute format($make$
        create function usage_seen_make_day(day date) returns void
        language plpgsql security definer set search_path = %1$I, pg_temp as $body$
        begin
            execute format('create table if not exists %%I partition of usage_seen for values in (%%L)',
                'usage_seen_' || to_char(day, 'YYYYMMDD'), day);
        end
        $body$
    $make$, current_schema());
    execute format($drop$
        create function usage_seen_drop_day(day date) returns void
        language plpgsql security definer set search_path = %1$I, pg_temp as $body$
        begin
            execute format('drop table if exists %%I', 'usage_seen_' || to_char(day, 'YYYYMMDD'));
        end
        $body$
    $drop$, current_schema());
end
$do$;
revoke all on function usage_seen_make_day(date), usage_seen_drop_day(date) from public;
