//! The commands.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "the `run` command will read from here")
)]
mod input;
