//! The table `worker`: which processes work stages.

use std::time::Duration;

use graphmill_jobs::WorkerId;
use sqlx::{PgConnection, query, query_scalar};

use super::{StoreError, seconds};

/// Says that `worker` is alive and has `slots`. Returns how many are, this one included: those that were seen within
/// `recently`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn see_worker(
    connection: &mut PgConnection,
    worker: WorkerId,
    version: &str,
    slots: usize,
    recently: Duration,
) -> Result<u32, StoreError> {
    let others = query_scalar!(
        r#"with this as (
             insert into worker (id, version, slots) values ($1, $2, $3)
             on conflict (id) do update set seen_at = now(), slots = excluded.slots)
           select count(*) as "others!" from worker
           where id <> $1 and seen_at > now() - make_interval(secs => $4)"#,
        worker.uuid(),
        version,
        i32::try_from(slots).unwrap_or(i32::MAX),
        seconds(recently),
    )
    .fetch_one(connection)
    .await?;
    Ok(u32::try_from(others).unwrap_or(0).saturating_add(1))
}

/// Removes `gone`, and the workers that were not seen for an hour.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn forget_workers(
    connection: &mut PgConnection,
    gone: Option<WorkerId>,
) -> Result<(), StoreError> {
    query!(
        "delete from worker where id = $1 or seen_at < now() - interval '1 hour'",
        gone.map(WorkerId::uuid),
    )
    .execute(connection)
    .await?;
    Ok(())
}
