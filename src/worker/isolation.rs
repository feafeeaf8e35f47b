//! Units that must run alone: a child process works one unit and nothing else.
//!
//! Both ends are here: the worker starts its own program again with [`WORK_UNIT`] and writes the errand to the child's
//! standard input, one line; the child writes to its standard output that it begins, and then the answer: marked lines,
//! since an extractor may write there too. Standard error is shared, and says what it would say in the worker.
//!
//! Invariant: a death counts only if the child had begun its unit, and died by itself while this process lives on and
//! is not asked to stop. A child whose parent is gone ends at once, and its unit counts as never tried.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Command,
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    extractors::Extractors,
    flow::Failure,
    pipeline::{self, Errand, Gate, IsolatedError, Isolation},
};

/// The argument that makes a program work one unit; see [`work_unit`].
pub const WORK_UNIT: &str = "work-unit";

/// Children at once. **Source:** each may hold a whole document, and what its unit makes of it.
const CHILDREN: usize = 2;
/// What a child may take to start and to read its errand. **Source:** generous, since a busy machine is not its fault.
const START: Duration = Duration::from_secs(60);
/// What it may take beyond its unit's time, to find that the unit never yields, and to say what came of it.
const SLACK: Duration = Duration::from_secs(10);
/// How long this process must outlive a child for the death to count. Whoever ends both, one after the other, has ended
/// the child from outside.
const OUTLIVE: Duration = Duration::from_secs(1);
/// Bytes of an answer, at most. **Source:** what a unit may find in the largest document (512 MiB) is far below.
const ANSWER: u64 = 256 << 20;
/// The line that says that the unit begins.
const BEGUN: &str = "graphmill-begun";
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
    async fn work(&self, errand: &Errand, gate: &dyn Gate) -> Result<Answer, IsolatedError> {
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
        // It waits for its errand: what was true before its turn came and it was started need not be true now.
        gate.may_begin().await?;
        let sent = async {
            // One that dies early does not read to the end; how it died says more than that.
            let _ = stdin.write_all(&line).await;
            let _ = stdin.flush().await;
            // Open for as long as the child may work: its end tells the child that its parent is gone.
            std::future::pending::<()>().await;
        };
        let heard = listen(BufReader::new(stdout.take(ANSWER)), errand.hard_timeout());
        let heard = tokio::select! {
            heard = heard => heard,
            () = sent => Heard::Silence,
        };
        match heard {
            Heard::Answer(answer) => Ok(answer),
            Heard::Silence => Err(IsolatedError::Overran),
            Heard::End { begun } => {
                // One that says no more, or too much, may live on.
                let Ok(status) = timeout(SLACK, child.wait()).await else {
                    return Err(IsolatedError::Overran);
                };
                let status = status.map_err(unavailable)?;
                if begun {
                    Err(self.autopsy(errand, status).await)
                } else {
                    let error = format!("it ended before it began: {status}");
                    Err(unavailable(std::io::Error::other(error)))
                }
            }
            Heard::NoBeginning => {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                Err(unavailable(error))
            }
        }
    }
}

/// What was heard from a child.
enum Heard {
    Answer(Answer),
    /// It began, and its time is over.
    Silence,
    /// It ended without an answer, or wrote no end of other things.
    End {
        begun: bool,
    },
    /// It never began.
    NoBeginning,
}

/// Listens to a child whose unit may take `hard_timeout`.
async fn listen(mut said: impl AsyncBufRead + Unpin, hard_timeout: Duration) -> Heard {
    let (mut begun, mut line) = (false, Vec::new());
    let mut until = Instant::now() + START;
    loop {
        line.clear();
        match timeout_at(until, said.read_until(b'\n', &mut line)).await {
            Err(_) if begun => return Heard::Silence,
            Err(_) => return Heard::NoBeginning,
            Ok(Err(_) | Ok(0)) => return Heard::End { begun },
            Ok(Ok(_)) => {}
        }
        let line = line.trim_ascii_end();
        if line == BEGUN.as_bytes() {
            begun = true;
            until = Instant::now() + hard_timeout.saturating_add(SLACK);
        } else if let Some(json) = line.strip_prefix(MARK.as_bytes())
            && let Ok(answer) = serde_json::from_slice(json)
        {
            return Heard::Answer(answer);
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
    if say(BEGUN).is_err() {
        return ExitCode::from(2);
    }
    let answer = pipeline::perform(&errand, &extractors).await;
    let written = match serde_json::to_string(&answer) {
        Ok(json) => say(&format!("{MARK}{json}")),
        Err(error) => Err(error.into()),
    };
    // At once: a unit that never yields would keep the process.
    std::process::exit(i32::from(written.is_err()));
}

/// Writes a line to standard output. A line break comes first: what an extractor wrote may not end with one.
fn say(line: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(format!("\n{line}\n").as_bytes())?;
    stdout.flush()
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

    async fn heard(said: &str) -> Heard {
        listen(said.as_bytes(), Duration::ZERO).await
    }

    #[tokio::test]
    async fn an_answer_is_found_among_what_an_extractor_says() {
        let said = "loading…\ngraphmill-begun\nno line break\ngraphmill-answer {\"Ok\":[1]}\n";
        let Heard::Answer(answer) = heard(said).await else {
            panic!("no answer");
        };
        assert_eq!(answer, Ok(json!([1])));
    }

    #[tokio::test]
    async fn only_one_that_has_begun_can_die_of_its_unit() {
        let broken = "\ngraphmill-begun\n\ngraphmill-answer {\"Ok\":[1";
        assert!(matches!(heard(broken).await, Heard::End { begun: true }));
        assert!(matches!(
            heard("usage: …\n").await,
            Heard::End { begun: false }
        ));
        assert!(matches!(heard("").await, Heard::End { begun: false }));
    }
}
