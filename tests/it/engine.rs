//! Real workers over a real Postgres and Redis: what a document, a batch and a worker go through, end to end. Every
//! test ends with the counts equal to the rows and to the log, no lease held and no job left (`Drill::ends`).

mod ahead;
mod failing;
mod following;
mod policing;
mod sequencing;
mod sharing;
mod signals;
mod stopping;
mod working;
