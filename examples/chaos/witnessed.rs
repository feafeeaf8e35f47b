//! The verdict over the witness' file: no unit was begun after its checkpoint, and none was begun more often than
//! leases were lost: of its stage, or of the one before, whose settle it does not wait for.
//!
//! One thing no worker can help: it looks whether the lease is held, is frozen, and goes on where it was when it wakes
//! up. Such a unit is *in doubt*: the first one right after a thaw, in the process that was thawed. A second one, or one
//! that comes later, did not look.
//!
//! The two clocks are one: the witness' and the database's run on the same machine. A unit that a worker began while
//! it was frozen, or right after, is told apart: its process had lost the lease and did not know yet, and what it did
//! was refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result};

use crate::ground::Ground;

/// Milliseconds that a line may be later than the checkpoint of the same unit: both are written down a little after
/// they are true.
const MARGIN: i128 = 20;

/// Milliseconds after a thaw in which what was on its way may still begin.
const ON_ITS_WAY: i128 = 250;

/// What the witness saw.
#[derive(Debug, Default)]
pub(crate) struct Witnessed {
    /// Lines in all.
    pub(crate) begun: usize,
    /// Units that were begun more than once.
    pub(crate) repeated: usize,
    /// Units that were on their way when their process was frozen, and were done elsewhere since.
    pub(crate) in_doubt: usize,
    /// Processes that worked.
    pub(crate) processes: usize,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

struct Line {
    process: u32,
    at: i128,
}

/// Reads the file and compares it with the rows.
pub(crate) async fn witnessed(
    ground: &Ground,
    file: &Path,
    mut thaws: Vec<(u32, u128)>,
) -> Result<Witnessed> {
    let text = fs::read_to_string(file).context("the witness wrote nothing")?;
    let mut seen: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    let mut processes = BTreeSet::new();
    for line in text.lines() {
        let mut words = line.rsplitn(3, ' ');
        let at = words.next().context("no time")?.parse()?;
        let process = words.next().context("no process")?.parse()?;
        let unit = words.next().context("no unit")?;
        processes.insert(process);
        seen.entry(unit.to_owned())
            .or_default()
            .push(Line { process, at });
    }
    let mut witnessed = Witnessed {
        begun: text.lines().count(),
        repeated: seen.values().filter(|lines| lines.len() > 1).count(),
        in_doubt: 0,
        processes: processes.len(),
        wrong: Vec::new(),
    };
    let units = checkpoints(ground).await?;
    for (unit, (done, lost)) in &units {
        let Some(lines) = seen.get(unit) else {
            let what = format!("{unit} has a checkpoint, and nobody began it");
            witnessed.wrong.push(what);
            continue;
        };
        for line in lines {
            if line.at > done + MARGIN {
                let woke = thaws.iter().position(|&(process, at)| {
                    let since = line.at - i128::try_from(at).unwrap_or(i128::MAX);
                    process == line.process && (-MARGIN..=ON_ITS_WAY).contains(&since)
                });
                if let Some(woke) = woke {
                    thaws.remove(woke);
                    witnessed.in_doubt += 1;
                    continue;
                }
                witnessed.wrong.push(format!(
                    "{unit} was begun by process {} {} ms after its checkpoint",
                    line.process,
                    line.at - done
                ));
            }
        }
        if lines.len() > lost + 1 {
            witnessed.wrong.push(format!(
                "{unit} was begun {} times, and its stage and the one before lost {lost} leases",
                lines.len()
            ));
        }
    }
    for unit in seen.keys().filter(|unit| !units.contains_key(*unit)) {
        let what = format!("{unit} was begun and has no checkpoint");
        witnessed.wrong.push(what);
    }
    Ok(witnessed)
}

/// When each unit was done, by the database's clock, and how many leases its stage and the one before have lost.
async fn checkpoints(ground: &Ground) -> Result<BTreeMap<String, (i128, usize)>> {
    let rows = ground
        .rows(
            "select d.external_id || '/' || c.stage || '/' || c.unit,
                    floor(extract(epoch from c.created_at) * 1000)::bigint,
                    (select count(*) from workflow_activity a
                     where a.workflow_execution_id = c.workflow_execution_id and a.status in ('failed', 'cancelled')
                       and a.activity_name = any(case c.stage
                               when 'mentions' then array['chunk-text', 'extract-mentions']
                               when 'entities' then array['extract-mentions', 'classify-entities']
                               else array['classify-entities', 'extract-relations'] end))
             from checkpoint c
             join workflow_execution e on e.id = c.workflow_execution_id
             join document d on d.id = e.document_id
             where c.outcome = 'done' and c.stage in ('mentions', 'entities', 'relations')",
        )
        .await?;
    rows.into_iter()
        .map(|row| Ok((row[0].clone(), (row[1].parse()?, row[2].parse()?))))
        .collect()
}
