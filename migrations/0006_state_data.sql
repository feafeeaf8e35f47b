-- Why: a state_data without a name agreed with every state, because a CHECK lets a null pass.

alter table batch
    drop constraint batch_state_data_agrees,
    add constraint batch_state_data_agrees check (state_data ->> 'name' is not distinct from state);
