//! The scripted model server, in the test's own process or in one that can be killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use graphmill::mock_model::{Entry, MockModel, Options, Script, Stats};

use super::bare;

/// A server in this process; it ends with this value, and so do its connections.
pub(crate) struct ModelServer(MockModel);

impl ModelServer {
    /// With a script in TOML; an empty one just works.
    pub(crate) async fn start(script: &str) -> Self {
        let options = Options {
            script: Script::read(script).unwrap(),
            ..Options::default()
        };
        Self::with(options).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        Self(MockModel::start(options).await.unwrap())
    }

    /// With `/v1` at its end.
    pub(crate) fn base_url(&self) -> String {
        self.0.base_url()
    }

    pub(crate) fn bill(&self) -> Vec<Entry> {
        self.0.bill()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.0.stats()
    }

    /// Replaces the script.
    pub(crate) fn script(&self, script: &str) {
        self.0.play(Script::read(script).unwrap());
    }
}

/// A server in a process of its own, with its bill in a file.
pub(crate) struct ModelProcess {
    child: Child,
    base_url: String,
    bill: PathBuf,
}

impl ModelProcess {
    /// Goes on with the bill if it is there.
    pub(crate) fn start(bill: &Path, script: &str) -> Self {
        let mut command = bare();
        command
            .args([
                "mock-model",
                "--until-stdin-closes",
                "--script-json",
                script,
            ])
            .arg("--bill")
            .arg(bill);
        Self::spawn(&mut command, bill)
    }

    fn spawn(command: &mut Command, bill: &Path) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut base_url = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut base_url)
            .unwrap();
        Self {
            child,
            base_url: base_url.trim_end().to_owned(),
            bill: bill.to_owned(),
        }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What stands in the file.
    pub(crate) fn bill(&self) -> Vec<Entry> {
        bill(&self.bill)
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its stdin and waits for its end.
    pub(crate) fn close(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for ModelProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bill in a file, line by line; a line that is torn is none.
pub(crate) fn bill(path: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}
