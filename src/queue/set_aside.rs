//! Jobs that nobody can run: where they are kept, and how to read them.
//!
//! Knows the list's format. Must not write to it: the worker's script does, in the step that takes the job out of
//! the queue. Invariant: the list is bounded, and what is set aside never stops its neighbours.

use serde::Deserialize;

use super::{
    connection::{Queue, QueueError},
    keys::SET_ASIDE,
};

/// A job that was taken out of its queue because nobody can run it: not of the stage's type, or half written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SetAside {
    /// Its queue.
    pub queue: String,
    /// Its id there.
    pub id: String,
    /// What is wrong with it.
    pub reason: String,
    /// The beginning of its payload, at most 4 KiB.
    pub payload: String,
    /// When it was set aside, in Unix seconds of Redis' clock.
    pub at: i64,
}

impl Queue {
    /// How many jobs are set aside; Redis keeps the last 1,000.
    ///
    /// # Errors
    ///
    /// [`QueueError::SetAside`]; trying again helps once Redis is there.
    pub async fn set_aside_count(&self) -> Result<usize, QueueError> {
        redis::cmd("LLEN")
            .arg(SET_ASIDE)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::SetAside)
    }

    /// The last jobs that were set aside, newest first, at most `most`. Redis keeps 1,000.
    ///
    /// # Errors
    ///
    /// [`QueueError::SetAside`]; trying again helps once Redis is there.
    pub async fn set_aside(&self, most: usize) -> Result<Vec<SetAside>, QueueError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let entries: Vec<Vec<u8>> = redis::cmd("LRANGE")
            .arg(SET_ASIDE)
            .arg(0)
            .arg(most - 1)
            .query_async(&mut self.redis.clone())
            .await
            .map_err(QueueError::SetAside)?;
        // ids and payloads of strangers need not be UTF-8
        Ok(entries
            .iter()
            .filter_map(|entry| serde_json::from_str(&String::from_utf8_lossy(entry)).ok())
            .collect())
    }
}
