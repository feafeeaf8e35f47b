//! Deaths (and freezes) at an exact step. The supervisor arms one by writing a file; the first worker that comes to the step claims
//! it by moving the file, writes down where it died, and kills itself with SIGKILL on the spot.
//!
//! Invariant: one armed death is one death, whatever the number of workers.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use graphmill::{flow::Stage, worker::Step};
use graphmill_jobs::WorkflowExecutionId;
use rustix::process::{Signal, getpid, kill_process};

use crate::witness;

/// Where a death is to come: at any stage and execution, unless they are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    pub(crate) stage: Option<Stage>,
    pub(crate) step: Step,
    pub(crate) execution: Option<WorkflowExecutionId>,
    /// How often the process passes the step before it dies there.
    pub(crate) skip: u64,
    /// It only freezes there, until somebody thaws it.
    pub(crate) freeze: bool,
}

/// Where it came.
#[derive(Debug, Clone)]
pub(crate) struct Landed {
    pub(crate) process: u32,
    pub(crate) stage: String,
    pub(crate) step: String,
    pub(crate) execution: String,
}

/// The folder through which the supervisor and its workers speak of deaths.
#[derive(Debug, Clone)]
pub(crate) struct Plan(PathBuf);

impl Plan {
    pub(crate) fn new(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let plan = Self(folder.into());
        for part in ["armed", "claimed", "landed"] {
            fs::create_dir_all(plan.0.join(part))?;
        }
        Ok(plan)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// From now on the first worker that comes there dies.
    pub(crate) fn arm(&self, name: &str, death: &Death) -> io::Result<()> {
        let any = || "*".to_owned();
        let line = format!(
            "{} {} {} {} {}",
            death.stage.map_or_else(any, |stage| stage.to_string()),
            death.step.as_str(),
            death.execution.map_or_else(any, |id| id.to_string()),
            death.skip,
            if death.freeze { "freeze" } else { "die" },
        );
        // Written aside, so that nobody reads half of it.
        let aside = self.0.join(name);
        fs::write(&aside, line)?;
        fs::rename(aside, self.0.join("armed").join(name))
    }

    /// Takes it back; a claimed one comes all the same.
    pub(crate) fn disarm(&self, name: &str) {
        let _ = fs::remove_file(self.0.join("armed").join(name));
    }

    /// Where it came, once it has.
    pub(crate) fn landed(&self, name: &str) -> Option<Landed> {
        let line = fs::read_to_string(self.0.join("landed").join(name)).ok()?;
        let mut words = line.split(' ').map(str::to_owned);
        Some(Landed {
            process: words.next()?.parse().ok()?,
            stage: words.next()?,
            step: words.next()?,
            execution: words.next()?,
        })
    }

    /// The processes that died of the plan.
    pub(crate) fn dead(&self) -> Vec<u32> {
        let entries = fs::read_dir(self.0.join("landed")).into_iter().flatten();
        entries
            .flatten()
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with("freeze"))
            .filter_map(|entry| {
                self.landed(entry.file_name().to_str()?)
                    .map(|it| it.process)
            })
            .collect()
    }
}

/// The worker's part.
pub(crate) struct Watcher {
    plan: Plan,
    passed: Mutex<HashMap<String, u64>>,
}

impl Watcher {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            plan,
            passed: Mutex::default(),
        }
    }

    /// Dies, if the plan says so.
    pub(crate) fn came_to(&self, stage: Stage, step: Step, execution: WorkflowExecutionId) {
        let Ok(armed) = fs::read_dir(self.plan.0.join("armed")) else {
            return;
        };
        for entry in armed.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(line) = fs::read_to_string(entry.path()) else {
                continue;
            };
            if self.is_here(&name, &line, stage, step, execution) {
                let signal = if line.ends_with("freeze") {
                    Signal::STOP
                } else {
                    Signal::KILL
                };
                self.end(&name, signal, stage, step, execution);
            }
        }
    }

    fn is_here(
        &self,
        name: &str,
        line: &str,
        stage: Stage,
        step: Step,
        execution: WorkflowExecutionId,
    ) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        let [of_stage, at_step, of_execution, skip, _] = words[..] else {
            return false;
        };
        let named = |wanted: &str, is: &str| wanted == "*" || wanted == is;
        if !(named(of_stage, stage.as_str())
            && at_step == step.as_str()
            && named(of_execution, &execution.to_string()))
        {
            return false;
        }
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let times = passed.entry(name.to_owned()).or_insert(0);
        *times += 1;
        *times > skip.parse().unwrap_or(0)
    }

    fn end(
        &self,
        name: &str,
        signal: Signal,
        stage: Stage,
        step: Step,
        execution: WorkflowExecutionId,
    ) {
        let (armed, claimed) = (
            self.plan.0.join("armed").join(name),
            self.plan.0.join("claimed").join(name),
        );
        // Another worker may have come first.
        if fs::rename(armed, &claimed).is_err() {
            return;
        }
        let line = format!(
            "{} {stage} {} {execution} {}",
            std::process::id(),
            step.as_str(),
            witness::now()
        );
        let _ = fs::write(&claimed, line);
        let _ = fs::rename(claimed, self.plan.0.join("landed").join(name));
        let _ = kill_process(getpid(), signal);
        // The signal may need a moment; not one more instruction of the stage runs before it.
        if signal == Signal::STOP {
            std::thread::sleep(Duration::from_millis(20));
        } else {
            loop {
                std::thread::park();
            }
        }
    }
}
