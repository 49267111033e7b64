-- +goose Up

-- +goose StatementBegin
-- Makes the missing day partitions of a table that is partitioned by range of a UUIDv7: for each of the given days its own partition
-- <table>_YYYYMMDD, from the id whose first 48 bits are the milliseconds of the day's 00:00 UTC to the same of the next day.
--
-- state: 'created'; 'present' (it was there); 'in_default' (rows of that day already lie in the default partition: the day stays there);
-- 'name_taken' (a table of that name exists and is no partition).
--
-- A partition is made beside the table and attached: writers go on, save those whose ids belong to the default partition, since attaching must
-- exclude that it holds rows of the day. The timeout bounds how long they can be kept waiting behind one of their own kind.
create function walpost_create_partitions(parent regclass, first_day date, days integer)
returns table (partition_name text, state text)
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '10s'
as $$
declare
  parent_schema name;
  parent_name name;
  key_column name;
  default_partition oid;
  existing regclass;
  occupied boolean;
  low uuid;
  high uuid;
begin
  select n.nspname, c.relname, a.attname, p.partdefid
  into parent_schema, parent_name, key_column, default_partition
  from pg_partitioned_table p
  join pg_class c on c.oid = p.partrelid
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
  where p.partrelid = parent and p.partstrat = 'r' and p.partnatts = 1 and a.atttypid = 'uuid'::regtype;
  if not found then
    raise exception 'walpost: % is not partitioned by range of one uuid column', parent
      using errcode = 'wrong_object_type';
  end if;

  -- One caller at a time: two would make the same partition.
  execute format('lock table only %I.%I in share update exclusive mode', parent_schema, parent_name);

  for day in 0 .. days - 1 loop
    partition_name := parent_name || to_char(first_day + day, '_YYYYMMDD');
    low := (lpad(to_hex((extract(epoch from first_day + day) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
    high := (lpad(to_hex((extract(epoch from first_day + day + 1) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
    existing := to_regclass(format('%I.%I', parent_schema, partition_name));

    if exists (select from pg_inherits where inhrelid = existing and inhparent = parent) then
      state := 'present';
    elsif existing is not null then
      state := 'name_taken';
      raise notice 'walpost: partition % not made: a table of that name is there and is no partition of %', partition_name, parent_name;
    else
      occupied := false;
      if default_partition <> 0 then
        execute format('lock table %s in access exclusive mode', default_partition::regclass);
        execute format('select exists (select from %1$s where %2$I >= $1 and %2$I < $2)', default_partition::regclass, key_column)
        into occupied using low, high;
      end if;
      if occupied then
        state := 'in_default';
        raise notice 'walpost: partition % not made: rows of that day are in %, which keeps the day', partition_name, default_partition::regclass;
      else
        state := 'created';
        execute format('create table %1$I.%2$I (like %1$I.%3$I including all)', parent_schema, partition_name, parent_name);
        execute format('alter table %1$I.%3$I attach partition %1$I.%2$I for values from (%4$L) to (%5$L)',
          parent_schema, partition_name, parent_name, low, high);
      end if;
    end if;
    return next;
  end loop;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop function walpost_create_partitions(regclass, date, integer);
