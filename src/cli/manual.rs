//! What shells and readers are told of the commands: completions, man pages, and `docs/CONFIG.md`. All of it is made of
//! the definitions of the flags, so none of it can say something else than `--help`. `docs/METRICS.md` is made of the
//! metrics in the same way.

mod metrics;

use std::{fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::{Arg, Args, Command, CommandFactory, Subcommand};
use clap_complete::Shell;

use super::{Cli, error::CliError, output};
use crate::config;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Whose completions.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<ExitCode, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "graphmill", &mut script);
    output::written(output::bytes(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write a page for each command into this folder, instead of one to stdout.
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(super) fn man(args: &ManArgs) -> Result<ExitCode, CliError> {
    let Some(folder) = &args.output else {
        let mut page = Vec::new();
        output::written(clap_mangen::Man::new(Cli::command()).render(&mut page))?;
        output::written(output::bytes(&page))?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|source| CliError::Write {
            path: folder.display().to_string(),
            source,
        })?;
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `docs`.
#[derive(Debug, Args)]
pub(super) struct DocsArgs {
    #[command(subcommand)]
    command: DocsCommand,
}

#[derive(Debug, Subcommand)]
enum DocsCommand {
    /// Print docs/CONFIG.md.
    Config,
    /// Print docs/METRICS.md.
    Metrics,
}

pub(super) fn docs(args: &DocsArgs) -> Result<ExitCode, CliError> {
    let page = match args.command {
        DocsCommand::Config => page(),
        DocsCommand::Metrics => metrics::page(),
    };
    output::written(output::bytes(page.as_bytes()))?;
    Ok(ExitCode::SUCCESS)
}

/// A flag, and the commands that take it.
struct Flag {
    arg: Arg,
    commands: Vec<String>,
}

/// The page, as it is in the repository.
fn page() -> String {
    let root = Cli::command();
    let flags = every_flag(&root);
    let mut page = String::from(
        "# Configuration\n\n\
         This page is made of the definitions of the flags: `graphmill docs config > docs/CONFIG.md` writes it anew, and\n\
         a test compares. A flag goes before its variable, the variable before `graphmill.toml`, that before the default.\n\n",
    );
    page.push_str("## Every command\n\n");
    table(
        &mut page,
        flags
            .iter()
            .filter(|flag| flag.arg.is_global_set() && !flag.arg.is_hide_set()),
        false,
    );
    page.push_str("\n## Settings with a variable\n\n");
    let with_variable = |flag: &&Flag| flag.arg.get_env().is_some() && !flag.arg.is_global_set();
    table(
        &mut page,
        flags
            .iter()
            .filter(with_variable)
            .filter(|flag| !flag.arg.is_hide_set()),
        true,
    );
    page.push_str("\n## Seldom needed\n\nNot in `--help`: for tests, and for surroundings that are unlike others.\n\n");
    table(
        &mut page,
        flags.iter().filter(|flag| flag.arg.is_hide_set()),
        true,
    );
    page.push_str("\n## Flags alone\n\n");
    let alone = |flag: &&Flag| flag.arg.get_env().is_none() && !flag.arg.is_global_set();
    table(
        &mut page,
        flags
            .iter()
            .filter(alone)
            .filter(|flag| !flag.arg.is_hide_set()),
        true,
    );
    page.push_str(
        "\n## `graphmill.toml`\n\n\
         The file that `--config` names, or else `graphmill.toml` where the command runs, if there is one. An unknown key is \
         refused,\nwith its line.\n\n| key | value | meaning |\n| --- | --- | --- |\n",
    );
    for key in config::FILE_KEYS {
        let meaning = if key.meaning.is_empty() {
            let long = format!("--{}", key.name);
            flags
                .iter()
                .find(|flag| names(&flag.arg).contains(&long))
                .map(|flag| meaning(&flag.arg))
                .unwrap_or_default()
        } else {
            key.meaning.to_owned()
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            key.name,
            key.value,
            escaped(&meaning)
        );
    }
    page
}

/// Every flag and argument of every command that is shown, once for each spelling and meaning.
fn every_flag(root: &Command) -> Vec<Flag> {
    let mut flags: Vec<Flag> = Vec::new();
    let mut open = vec![(String::new(), root)];
    while let Some((path, command)) = open.pop() {
        for arg in command.get_arguments() {
            let same = |flag: &&mut Flag| {
                names(&flag.arg) == names(arg)
                    && meaning(&flag.arg) == meaning(arg)
                    && flag.arg.get_env() == arg.get_env()
                    && default(&flag.arg) == default(arg)
            };
            match flags.iter_mut().find(same) {
                Some(flag) => flag.commands.push(path.clone()),
                None => flags.push(Flag {
                    arg: arg.clone(),
                    commands: vec![path.clone()],
                }),
            }
        }
        let mut below: Vec<_> = command
            .get_subcommands()
            .filter(|below| !below.is_hide_set())
            .map(|below| {
                let path = format!("{path} {}", below.get_name());
                (path.trim_start().to_owned(), below)
            })
            .collect();
        below.reverse();
        open.extend(below);
    }
    flags
}

fn table<'f>(page: &mut String, flags: impl Iterator<Item = &'f Flag>, with_commands: bool) {
    page.push_str(if with_commands {
        "| flag | variable | default | commands | meaning |\n| --- | --- | --- | --- | --- |\n"
    } else {
        "| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n"
    });
    for flag in flags {
        let variable = flag
            .arg
            .get_env()
            .map_or_else(String::new, |name| format!("`{}`", name.to_string_lossy()));
        let commands = if with_commands {
            format!(" {} |", flag.commands.join(", "))
        } else {
            String::new()
        };
        // Writing to a string does not fail.
        let _ = writeln!(
            page,
            "| `{}` | {variable} | {} |{commands} {} |",
            names(&flag.arg),
            default(&flag.arg),
            escaped(&meaning(&flag.arg))
        );
    }
}

/// How it is written: `--rpm N`, or `PATH` for one without a dash.
fn names(arg: &Arg) -> String {
    let value = arg.get_action().takes_values().then(|| {
        let names = arg.get_value_names().unwrap_or_default();
        let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
        if names.is_empty() {
            arg.get_id().as_str().to_uppercase()
        } else {
            names.join(" ")
        }
    });
    match (arg.get_long(), value) {
        (Some(long), Some(value)) => format!("--{long} {value}"),
        (Some(long), None) => format!("--{long}"),
        (None, value) => value.unwrap_or_default(),
    }
}

fn default(arg: &Arg) -> String {
    let values: Vec<String> = arg
        .get_default_values()
        .iter()
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    values.join(" ")
}

/// What `--help` says of it, in one line, with what it may be.
fn meaning(arg: &Arg) -> String {
    let text = arg
        .get_long_help()
        .or_else(|| arg.get_help())
        .map(ToString::to_string)
        .unwrap_or_default();
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let values: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if arg.get_action().takes_values() && !values.is_empty() {
        if !text.ends_with(['.', ')']) {
            text.push('.');
        }
        let _ = write!(text, " One of {}.", values.join(", "));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}
