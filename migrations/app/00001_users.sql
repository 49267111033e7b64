-- +goose Up

create table users (
  id            uuid        not null,
  email         text        not null,
  password_hash text        not null,
  created_at    timestamptz not null default now(),
  constraint users_pkey primary key (id),
  constraint users_email_key unique (email),
  constraint users_email_size check (octet_length(email) between 3 and 254)
);

comment on column users.email is 'normalised by the application, so that unique means one account an address';
comment on column users.password_hash is 'argon2id in PHC form';

-- +goose Down
drop table users;
