//! Another process that runs private servers: this test binary itself, started again for one ignored test.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The ignored test that a [`Keeper`] runs; its body is [`keep`].
const TEST: &str = "servers::keeper";

/// A real process that keeps the servers of a folder running.
pub(crate) struct Keeper {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    /// Whether it owned the servers when they were ready.
    pub(crate) owner: bool,
    /// Its servers' process ids; empty when it isn't their owner.
    pub(crate) servers: Vec<u32>,
}

impl Keeper {
    /// Starts it and waits until its servers are ready.
    pub(crate) fn start(dir: &Path) -> Self {
        let mut keeper = Self::begin(dir);
        keeper.read();
        keeper
    }

    /// Starts it and waits for nothing.
    pub(crate) fn begin(dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", dir.display()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self {
            child,
            stdin: Some(stdin),
            lines,
            owner: false,
            servers: Vec::new(),
        }
    }

    /// Asks it again for its part and its servers.
    pub(crate) fn ask(&mut self) {
        writeln!(self.stdin.as_mut().unwrap()).unwrap();
        self.read();
    }

    /// Ends it as a program ends by itself.
    pub(crate) fn end(mut self) {
        self.stdin = None;
        assert!(self.child.wait().unwrap().success());
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn read(&mut self) {
        let line = self
            .lines
            .find_map(|line| {
                line.unwrap()
                    .split_once("KEEPER ")
                    .map(|(_, rest)| rest.to_owned())
            })
            .expect("the keeper says what it runs");
        let mut words = line.split_whitespace();
        self.owner = words.next() == Some("owner");
        self.servers = words.map(|pid| pid.parse().unwrap()).collect();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process does: reads the folder from its first line, runs the servers, answers to every further
/// line, and stops at the end of its input.
pub(crate) fn keep() {
    use graphmill::servers::{Server, Servers, Settings};

    let mut lines = std::io::stdin().lines().map(Result::unwrap);
    // Not started by a Keeper, but by somebody who runs the ignored tests.
    let Some(dir) = lines.next().filter(|dir| !dir.is_empty()) else {
        return;
    };
    let settings = Settings {
        dir: dir.into(),
        ..super::settings("keeper")
    };
    let servers = Servers::start(settings).unwrap();
    let say = || {
        let pids = [Server::Postgres, Server::Redis].map(|server| servers.pid(server));
        let pids: Vec<String> = pids
            .into_iter()
            .flatten()
            .map(|pid| pid.to_string())
            .collect();
        let part = if servers.owner() { "owner" } else { "attached" };
        println!("KEEPER {part} {}", pids.join(" "));
    };
    say();
    lines.for_each(|_| say());
    servers.stop();
}

/// An example program, built with the tests.
pub(crate) fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let folder = tests.parent().and_then(Path::parent).unwrap();
    let program = folder.join("examples").join(name);
    assert!(program.exists(), "not built: cargo build --example {name}");
    let mut command = Command::new(program);
    for name in [
        "DATABASE_URL",
        "REDIS_URL",
        "GRAPHMILL_DATA_DIR",
        "GRAPHMILL_LOG",
    ] {
        command.env_remove(name);
    }
    command
}

/// Whether a process lives; a zombie doesn't.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}
