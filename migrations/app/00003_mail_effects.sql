-- +goose Up

-- Mails to be sent because of an event. The row is written in the transaction that applies the event; the mail leaves later, at least
-- once, and the id goes along so that a second copy can be told.
create table mail_effects (
  id              uuid        not null,
  notification_id uuid        not null,
  recipient       text        not null,
  kind            text        not null,
  state           text        not null default 'pending',
  attempts        integer     not null default 0,
  next_attempt_at timestamptz not null default now(),
  started_at      timestamptz,
  sent_at         timestamptz,
  created_at      timestamptz not null default now(),
  constraint mail_effects_pkey primary key (id),
  constraint mail_effects_notification_id_fkey foreign key (notification_id) references notifications (id),
  constraint mail_effects_kind_known check (kind in ('welcome', 'already_registered')),
  constraint mail_effects_state_known check (state in ('pending', 'started', 'sent', 'failed')),
  constraint mail_effects_attempts_counted check (attempts >= 0)
);

comment on column mail_effects.id is 'the id of the event: one event, one mail';

create index mail_effects_notification_id on mail_effects (notification_id);
create index mail_effects_due on mail_effects (next_attempt_at) where state in ('pending', 'started');

-- +goose Down
drop table mail_effects;
