-- +goose Up

-- How far a consumer has come in each partition of its topics: every message below next_offset is durably accounted for. Written before Kafka
-- is told the same, so that a database that lost its last transactions, or Kafka offsets that expired, are noticed and made up for.
create table inbox_position (
  consumer    smallint    not null,
  topic       text        not null,
  partition   integer     not null,
  topic_id    uuid        not null, -- Kafka's: a topic of the same name that was made anew is not the same log
  next_offset bigint      not null,
  updated_at  timestamptz not null default now(),
  constraint inbox_position_pkey primary key (consumer, topic, partition),
  constraint inbox_position_consumer_fkey foreign key (consumer) references inbox_consumer (id) on delete cascade,
  constraint inbox_position_next_offset_not_negative check (next_offset >= 0)
);

-- +goose Down
drop table inbox_position;
