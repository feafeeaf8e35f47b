-- Why: batches share the fleet by weight, and a batch may put up with some failures and not with more. Both are read
-- by those who schedule, over all organizations.

alter table batch
    add column weight integer not null default 1,
    add column max_failures text,
    add constraint batch_weight_is_small check (weight between 1 and 1000),
    add constraint batch_max_failures_is_a_number_or_a_share check (max_failures ~ '^[0-9]{1,10}(\.[0-9]{1,2})?%?$');
comment on column batch.weight is 'Its share of the fleet against other open batches of its organization; organizations share evenly.';
comment on column batch.max_failures is
    'Documents that may be abandoned before the rest is cancelled and the batch fails: a number, or a percentage of all; null is any number.';
grant select (weight, max_failures) on batch to graphmill_engine;
