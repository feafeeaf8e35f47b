//! This process itself: its pools, and what Linux says of it. On other systems the latter is not there.

use std::fs;

use super::{
    book::{Book, Level},
    instrument::{Billionths, Table},
    work::level,
};

/// A tick of `/proc`, in nanoseconds. **Source:** `USER_HZ`, which is 100 on every architecture that Rust runs on.
const TICK: u64 = 10_000_000;

/// See the module.
#[derive(Debug)]
pub struct Process {
    connections: Table<Level, 2>,
    most: Table<Level, 1>,
    memory: Table<Level, 0>,
    files: Table<Level, 0>,
    cpu: Table<Billionths, 0>,
    started: Table<Level, 0>,
}

impl Process {
    pub(super) fn new(book: &mut Book) -> Self {
        book.chapter("The process");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        let meaning = "Which graphmill this is";
        book.info("graphmill_build", &["version"], version, meaning);
        Self {
            connections: book.gauges(
                "graphmill_pool_connections",
                ["pool", "state"],
                "Connections to Postgres that this process has open: `used` or `idle`",
            ),
            most: book.gauges(
                "graphmill_pool_connections_max",
                ["pool"],
                "Connections that the pool may open",
            ),
            memory: book.gauges(
                "process_resident_memory_bytes",
                [],
                "Memory that is resident",
            ),
            files: book.gauges("process_open_fds", [], "Files and sockets that are open"),
            cpu: book.fractions("process_cpu_seconds", [], "Processor time since the start"),
            started: book.gauges(
                "process_start_time_seconds",
                [],
                "When the process was started, in Unix seconds",
            ),
        }
    }

    /// How a pool stands now.
    pub fn pool(&self, pool: &'static str, used: u32, idle: u32, most: u32) {
        for (state, connections) in [("used", used), ("idle", idle)] {
            self.connections
                .at([pool, state], |gauge| gauge.set(f64::from(connections)));
        }
        self.most.at([pool], |gauge| gauge.set(f64::from(most)));
    }

    /// Looks at what the system says of the process; some tens of microseconds.
    pub fn look(&self) {
        if let Some(bytes) = resident() {
            self.memory.at([], |gauge| gauge.set(bytes));
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            self.files.at([], |gauge| gauge.set(level(open.count())));
        }
        if let Some([user, system, started]) = times() {
            self.cpu.at([], |cpu| cpu.set((user + system) * TICK));
            if let Some(booted) = booted() {
                #[expect(clippy::cast_precision_loss, reason = "hundredths of a second suffice")]
                let seconds = (started * TICK) as f64 / 1e9;
                self.started.at([], |gauge| gauge.set(booted + seconds));
            }
        }
    }
}

/// Bytes.
fn resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kibibytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// Ticks in user mode, in the kernel, and from the machine's start to the process'.
fn times() -> Option<[u64; 3]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name, which comes before, may have anything in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks = |place: usize| fields.get(place)?.parse().ok();
    Some([ticks(11)?, ticks(12)?, ticks(19)?])
}

/// When the machine was started, in Unix seconds.
fn booted() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find(|line| line.starts_with("btime "))?;
    line.split_once(' ')?.1.trim().parse().ok()
}
