//! Private servers, as they are used without a setting.

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use super::{assert_report, many};
use crate::support::{self, PATIENCE, Said, bare, examples, say, wait_for};

fn private(folder: &std::path::Path) -> Command {
    let settings = support::settings("cli-private-settings");
    let mut command = bare();
    command.current_dir(folder);
    for (name, value) in [
        ("GRAPHMILL_PG_BIN", settings.pg_bin.map(Into::into)),
        (
            "GRAPHMILL_REDIS_SERVER",
            settings.redis_server.map(Into::into),
        ),
        ("GRAPHMILL_LIBRARY_PATH", settings.library_path),
    ] {
        let value: Option<std::ffi::OsString> = value;
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}

#[test]
fn everything_works_without_a_setting() {
    let folder = support::folder("cli-private");
    let command = || private(&folder);
    let good = examples("broken").join("good.txt");
    let said = say(command().args(["run", "--name", "a"]).arg(&good)).exits(0);
    assert!(
        said.stderr.starts_with("using private Postgres "),
        "{said:#?}"
    );
    let said = say(command().args(["run", "--json"]).arg(&good)).exits(0);
    assert_report(&said.json());
    assert!(said.stderr.starts_with("batch batch_"), "{said:#?}");
    let said = say(command().arg("doctor")).exits(0);
    assert!(
        !said.stdout.contains("FAIL") && said.stderr.is_empty(),
        "{said:#?}"
    );
    let said = say(command().args([
        "servers",
        "--",
        "sh",
        "-c",
        "echo $DATABASE_URL $REDIS_URL; exit 7",
    ]));
    let said = said.exits(7);
    assert!(
        said.stdout.contains("postgres://graphmill@localhost/"),
        "{said:#?}"
    );
    assert!(said.stdout.contains(" redis+unix://"), "{said:#?}");
    // One of one's own and one private, in the folder of both.
    let said = say(command()
        .env("DATABASE_URL", "postgres://x@127.0.0.1:1/x")
        .args(["doctor"]));
    let said = said.exits(3);
    assert!(said.stdout.contains("ok   Redis"), "{said:#?}");
    assert!(said.stdout.contains("FAIL Postgres"), "{said:#?}");
}

#[test]
fn a_run_goes_on_when_the_owner_of_its_servers_ends() {
    let folder = support::folder("cli-two");
    let documents = many("cli-two-documents", 150);
    let owner = private(&folder)
        .args(["servers", "--", "sh", "-c", "echo ready; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = owner.id();
    wait_for("the owner's servers", || {
        let said = say(private(&folder).args(["batch", "list"]));
        (said.code == Some(0)).then_some(())
    });
    let told = support::folder("cli-two-told").join("stderr");
    let second = private(&folder)
        .args(["run", "--json", "--name", "b", "--log", "info"])
        .arg(&documents)
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&told).unwrap())
        .spawn()
        .unwrap();
    let begin = Instant::now();
    loop {
        let shown = say(private(&folder).args(["batch", "show", "b", "--json"]));
        if shown.code == Some(0) && shown.json()["documents"]["completed"] != 0 {
            break;
        }
        let told = || fs::read_to_string(&told);
        assert!(begin.elapsed() < PATIENCE, "{shown:#?}, {:#?}", told());
    }
    // The end of its input is the end of the command, and of the servers' owner.
    let owner = Said::from(owner.wait_with_output().unwrap());
    assert_ne!(owner.code, Some(3), "{pid}: {owner:#?}");
    let said = Said::from(second.wait_with_output().unwrap()).exits(0);
    let report = said.json();
    assert_report(&report);
    assert_eq!(report["documents"]["completed"], 150, "{said:#?}");
}
