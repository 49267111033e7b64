-- +goose Up

create table notifications (
  id         uuid        not null,
  user_id    uuid        not null,
  kind       text        not null,
  state      text        not null default 'PENDING',
  created_at timestamptz not null default now(),
  sent_at    timestamptz,
  failed_at  timestamptz,
  failure    text,
  constraint notifications_pkey primary key (id),
  constraint notifications_user_id_fkey foreign key (user_id) references users (id),
  constraint notifications_kind_known check (kind in ('welcome', 'already_registered')),
  constraint notifications_state_known check (state in ('PENDING', 'SENT', 'FAILED')),
  constraint notifications_sent_has_time check (state <> 'SENT' or sent_at is not null),
  constraint notifications_failed_has_time check (state <> 'FAILED' or failed_at is not null)
);

create index notifications_user_id on notifications (user_id);

-- +goose Down
drop table notifications;
