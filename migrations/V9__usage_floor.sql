-- What was counted is remembered for as long as the events live, whatever
-- retention_days says meanwhile: a shorter one forgets nothing early, and a longer one
-- makes nothing count twice. Versions before this one keep to it by the functions that
-- they call.

-- The first day of receipt of which it is still known what was counted. What was
-- received before counts no more. It only rises.
create table usage_floor (
    is_single boolean primary key default true check (is_single),
    first_day date not null
);
insert into usage_floor (first_day) values ('0001-01-01');

create function usage_floor_refuse_fall() returns trigger language plpgsql as $$
begin
    raise exception 'usage_floor only rises' using errcode = 'check_violation';
end
$$;
create trigger usage_floor_only_rises before update on usage_floor
    for each row when (new.first_day < old.first_day)
    execute function usage_floor_refuse_fall();

-- Until which day events of a day of receipt live, as far as they have been counted by
-- a version that knows of this.
create table usage_seen_days (
    day date primary key,
    kept_until date not null
);
-- What older versions counted lives for as long as the oldest day that they keep says,
-- and as the default at least: retention_days may be made shorter with this version.
insert into usage_seen_days (day, kept_until)
select p.day, p.day + greatest(current_date - min(p.day) over (), 32)
from (
    select to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'usage_seen'::regclass and c.relname ~ '^usage_seen_[0-9]{8}$'
) as p;

-- With the search path of its maker fixed, as those that they replace.
do $do$
begin
    -- A day below the floor is not made again: its events count no more.
    execute format($make$
        create or replace function usage_seen_make_day(day date) returns void
        language plpgsql security definer set search_path = %1$I, pg_temp as $body$
        begin
            if day < (select first_day from usage_floor) then
                return;
            end if;
            execute format('create table if not exists %%I partition of usage_seen for values in (%%L)',
                'usage_seen_' || to_char(day, 'YYYYMMDD'), day);
        end
        $body$
    $make$, current_schema());
    -- False while an event of that day or one before may live until expired_before or
    -- later; then nothing is forgotten.
    execute format($forget$
        create function usage_seen_forget_day(forgotten date, expired_before date) returns boolean
        language plpgsql security definer set search_path = %1$I, pg_temp as $body$
        begin
            if exists (select from usage_seen_days d
                where d.day <= forgotten and d.kept_until >= expired_before) then
                return false;
            end if;
            update usage_floor set first_day = forgotten + 1 where first_day <= forgotten;
            execute format('drop table if exists %%I', 'usage_seen_' || to_char(forgotten, 'YYYYMMDD'));
            delete from usage_seen_days d where d.day <= forgotten;
            return true;
        end
        $body$
    $forget$, current_schema());
    execute format($drop$
        create or replace function usage_seen_drop_day(day date) returns void
        language plpgsql security definer set search_path = %1$I, pg_temp as $body$
        begin
            perform usage_seen_forget_day(day, current_date - 2);
        end
        $body$
    $drop$, current_schema());
end
$do$;
revoke all on function usage_seen_forget_day(date, date) from public;
