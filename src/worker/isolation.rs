//! Units that must run alone: a child process works one unit and nothing else.
//!
//! Both ends are here: the worker starts its own program again with [`WORK_UNIT`] and writes the errand to the child's
//! standard input, one line; the child writes the answer to its standard output, one marked line, since an extractor
//! may write there too. Standard error is shared, and says what it would say in the worker.
//!
//! Invariant: a death counts only if the child died by itself while this process lives on and is not asked to stop.
//! A child whose parent is gone ends at once, and its unit counts as never tried.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    extractors::Extractors,
    flow::Failure,
    pipeline::{self, Errand, IsolatedError, Isolation},
};

/// The argument that makes a program work one unit; see [`work_unit`].
pub const WORK_UNIT: &str = "work-unit";

/// Children at once. **Source:** each may hold a whole document, and what its unit makes of it.
const CHILDREN: usize = 2;
/// What a child may take beyond its unit's time: to start, to read its errand, and to find that the unit never yields.
const SLACK: Duration = Duration::from_secs(10);
/// How long this process must outlive a child for the death to count. Whoever ends both, one after the other, has ended
/// the child from outside.
const OUTLIVE: Duration = Duration::from_secs(1);
/// Bytes of an answer, at most. **Source:** what a unit may find in the largest document (512 MiB) is far below.
const ANSWER: u64 = 256 << 20;
/// What the line with the answer begins with.
const MARK: &str = "graphmill-answer ";
/// Signals that ask a process to end: it is not its unit that does. **Source:** signal(7): HUP, INT, QUIT, TERM.
const ASKED: [i32; 4] = [1, 2, 3, 15];
/// What a child ends with whose parent is gone.
const ORPHAN: i32 = 70;

/// What a child brings back.
type Answer = Result<Value, Failure>;

/// Starts children of this process.
pub(super) struct Children {
    permits: Semaphore,
    /// This process stops: whatever ends its children now may be what ends it too.
    stop: CancellationToken,
}

impl Children {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self {
            permits: Semaphore::new(CHILDREN),
            stop,
        }
    }
}

/// This very program, also if its file was replaced since it was started.
fn program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") {
        Ok(PathBuf::from("/proc/self/exe"))
    } else {
        std::env::current_exe()
    }
}

#[async_trait]
impl Isolation for Children {
    async fn work(&self, errand: &Errand) -> Result<Answer, IsolatedError> {
        let unavailable = IsolatedError::Unavailable;
        let Ok(_permit) = self.permits.acquire().await else {
            return Err(IsolatedError::Interrupted);
        };
        let mut line = errand
            .to_json()
            .map_err(|error| unavailable(std::io::Error::other(error)))?;
        line.push(b'\n');
        let mut child = Command::new(program().map_err(unavailable)?)
            .arg0("graphmill")
            .arg(WORK_UNIT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C on the terminal is this process' to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(unavailable)?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(IsolatedError::Interrupted);
        };
        let mut said = Vec::new();
        let talk = async {
            // One that dies early does not read to the end; how it died says more than that.
            let _ = stdin.write_all(&line).await;
            let _ = stdin.flush().await;
            let _ = stdout.take(ANSWER).read_to_end(&mut said).await;
            // Closed only now: it tells the child that its parent is gone.
            drop(stdin);
            child.wait().await
        };
        let limit = errand.hard_timeout().saturating_add(SLACK);
        let ended = timeout(limit, talk).await;
        if let Some(answer) = answer(&said) {
            return Ok(answer);
        }
        match ended {
            Err(_) => Err(IsolatedError::Overran),
            Ok(Err(error)) => Err(unavailable(error)),
            Ok(Ok(status)) => Err(self.autopsy(errand, status).await),
        }
    }
}

impl Children {
    /// Whose fault it is that a child ended without an answer.
    async fn autopsy(&self, errand: &Errand, status: ExitStatus) -> IsolatedError {
        let signal = signal_of(status);
        let (stage, unit) = (errand.stage(), errand.unit());
        let asked = signal.is_some_and(|signal| ASKED.contains(&signal));
        sleep(OUTLIVE).await;
        if asked || self.stop.is_cancelled() {
            info!(%stage, unit, "the process of a unit was ended from outside");
            return IsolatedError::Interrupted;
        }
        warn!(%stage, unit, signal, exit_code = status.code(), "a process died of the one unit in it");
        IsolatedError::Died {
            signal,
            code: status.code(),
        }
    }
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal_of(_status: ExitStatus) -> Option<i32> {
    None
}

/// The answer in what a child said.
fn answer(said: &[u8]) -> Option<Answer> {
    let lines = said.rsplit(|&byte| byte == b'\n');
    let marked = lines.filter_map(|line| line.strip_prefix(MARK.as_bytes()));
    marked
        .into_iter()
        .find_map(|json| serde_json::from_slice(json).ok())
}

/// Works the errand that stands on standard input: what a program does that was started with [`WORK_UNIT`]. It ends the
/// process at once if its parent ends.
pub async fn work_unit(extractors: Extractors) -> ExitCode {
    volunteer();
    let mut line = Vec::new();
    let read = std::io::stdin().lock().read_until(b'\n', &mut line);
    let Ok(Ok(errand)) = read.map(|_| Errand::from_json(&line)) else {
        return ExitCode::from(2);
    };
    drop(line);
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(ORPHAN);
    });
    let answer = pipeline::perform(&errand, &extractors).await;
    let written = serde_json::to_string(&answer).and_then(|json| {
        // After a line break: what an extractor wrote may not end with one.
        let line = format!("\n{MARK}{json}\n");
        let mut stdout = std::io::stdout().lock();
        let done = stdout
            .write_all(line.as_bytes())
            .and_then(|()| stdout.flush());
        done.map_err(serde_json::Error::io)
    });
    // At once: a unit that never yields would keep the process.
    std::process::exit(i32::from(written.is_err()));
}

/// Has the kernel take this process first, where memory runs out.
fn volunteer() {
    // Best effort: where there is no such file, nobody reads it.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_found_among_what_an_extractor_says() {
        let said = |text: &str| answer(text.as_bytes());
        assert_eq!(
            said("loading model…\nno line break\ngraphmill-answer {\"Ok\":[1]}\n"),
            Some(Ok(json!([1])))
        );
        assert_eq!(
            said("graphmill-answer {\"Ok\":[1"),
            None,
            "it died while it wrote"
        );
        assert_eq!(said(""), None);
    }
}
