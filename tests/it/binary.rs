//! The binary, and what its help says: the reference for whatever the README and the compose file claim.

use std::{collections::BTreeSet, process::Command};

/// The binary, without anything that the surroundings set for it.
pub(crate) fn graphmill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_graphmill"));
    command.env_remove("DATABASE_URL").env_remove("REDIS_URL");
    command
}

/// What `graphmill ARGUMENTS --help` prints; the reason, if the arguments before it are refused.
pub(crate) fn help(arguments: &[&str]) -> Result<String, String> {
    let output = graphmill().args(arguments).arg("--help").output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The words under `Commands:` in a help text.
pub(crate) fn commands(help: &str) -> Vec<String> {
    help.lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The flags that a help text explains.
pub(crate) fn flags(help: &str) -> BTreeSet<String> {
    help.lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with('-'))
        .flat_map(|line| line.split([' ', ',', '=']))
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// The environment variables that a help text explains.
pub(crate) fn variables(help: &str) -> BTreeSet<String> {
    help.split("[env: ")
        .skip(1)
        .filter_map(|rest| rest.split(['=', ']']).next())
        .map(str::to_owned)
        .collect()
}

/// Every command with the words that lead to it, and the flags it has: `[]`, `["run"]`, `["batch", "list"]`, …
pub(crate) fn every_command() -> Vec<(Vec<String>, BTreeSet<String>)> {
    let mut found = Vec::new();
    let mut open = vec![Vec::<String>::new()];
    while let Some(words) = open.pop() {
        let text = help(&words.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
        open.extend(commands(&text).into_iter().map(|command| {
            let mut longer = words.clone();
            longer.push(command);
            longer
        }));
        found.push((words, flags(&text)));
    }
    found
}
