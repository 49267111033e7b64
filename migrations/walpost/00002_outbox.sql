-- +goose Up

-- One row an event, written by the application in the transaction that states the fact. The sizes are those of package outbox: whoever writes,
-- in whatever language, fails here and not in the relay. json keeps the payload's text as it was given; jsonb would rewrite it.
-- The length of event_type is checked apart from its characters, since {1,249} in the expression made the check 50 times slower (100 us a row).
create table outbox_events (
  id             uuid        not null,
  aggregate_type text,
  aggregate_id   text        not null,
  event_type     text        not null,
  payload        json,
  headers        jsonb,
  traceparent    text,
  created_at     timestamptz not null default now(),
  constraint outbox_events_pkey primary key (id),
  constraint outbox_events_aggregate_type_size check (octet_length(aggregate_type) between 1 and 255),
  constraint outbox_events_aggregate_id_size check (octet_length(aggregate_id) between 1 and 1024),
  constraint outbox_events_event_type_topic check (
    octet_length(event_type) between 1 and 249 and event_type collate "C" !~ '[^a-zA-Z0-9._-]' and event_type not in ('.', '..')),
  constraint outbox_events_payload_size check (octet_length(payload::text) <= 921600),
  constraint outbox_events_headers_size check (octet_length(headers::text) <= 16384),
  constraint outbox_events_traceparent_size check (octet_length(traceparent) between 1 and 255)
) partition by range (id);

create table outbox_events_default partition of outbox_events default;

comment on table outbox_events is 'events to be published by walpost; partitioned by the day of the UUIDv7, dropped by day';
comment on table outbox_events_default is 'events whose ids are no UUIDv7 of a day that has a partition';

-- The publication comes before any slot: a slot that is older than its publication stops at the first change it cannot find it for.
-- Inserts only: cleaning up is no event. By the root: a partition is no table of its own to the reader.
create publication walpost_outbox for table outbox_events with (publish = 'insert', publish_via_partition_root = true);

-- +goose Down
drop publication walpost_outbox;
drop table outbox_events;
