//! The table `worker`: which processes work stages.

use graphmill_jobs::WorkerId;
use sqlx::{PgConnection, query};

use super::StoreError;

/// Says that `worker` is alive and has `slots`.
///
/// # Errors
/// [`StoreError::Query`]; trying again may help.
pub async fn see_worker(
    connection: &mut PgConnection,
    worker: WorkerId,
    version: &str,
    slots: usize,
) -> Result<(), StoreError> {
    query!(
        "insert into worker (id, version, slots) values ($1, $2, $3)
         on conflict (id) do update set seen_at = now(), slots = excluded.slots",
        worker.uuid(),
        version,
        i32::try_from(slots).unwrap_or(i32::MAX),
    )
    .execute(connection)
    .await?;
    Ok(())
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
