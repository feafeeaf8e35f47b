//! Deliveries that nobody of ours would make, with plain Redis commands as a producer in any language would send them:
//! twice, late, to the wrong queue, for nobody, malformed, in another order.

use std::time::{Duration, Instant};

use anyhow::Result;
use graphmill::flow::Stage;
use graphmill_jobs::{OrganizationId, WorkflowExecutionId};
use serde_json::json;
use tokio::time::sleep;

use crate::{chance::Chance, ground::Ground};

/// Reorders a list in one step, so that nothing that is pushed meanwhile is lost.
const SHUFFLE: &str = "
    local ids = redis.call('LRANGE', KEYS[1], 0, -1)
    local seed = tonumber(ARGV[1])
    for i = #ids, 2, -1 do
      seed = (seed * 1103515245 + 12345) % 2147483648
      local j = seed % i + 1
      ids[i], ids[j] = ids[j], ids[i]
    end
    if #ids > 1 then
      redis.call('DEL', KEYS[1])
      for _, id in ipairs(ids) do redis.call('RPUSH', KEYS[1], id) end
    end
    return #ids";

struct Job {
    stage: Stage,
    id: String,
    payload: Vec<u8>,
}

/// Pushes jobs of executions that are at work, that wait, that have ended, and of none.
pub(crate) async fn repeat(ground: &Ground, chance: &mut Chance) -> Result<String> {
    let rows = ground
        .rows(format!(
            "select id, current_activity, lease_epoch, workflow_version from workflow_execution
             order by status <> 'processing', md5(id::text || '{}') limit 24",
            chance.draw()
        ))
        .await?;
    let mut jobs = Vec::new();
    for row in &rows {
        let uuid: uuid::Uuid = row[0].parse()?;
        let epoch: i64 = row[2].parse()?;
        let stage = Stage::of_activity(&row[1]).unwrap_or(Stage::Chunk);
        let other = *chance.pick(&Stage::ALL).unwrap_or(&Stage::Resolve);
        // The one that it waits for or is worked under, the one that was answered, the first, one of the future.
        for (stage, epoch) in [
            (stage, epoch),
            (stage, epoch - 1),
            (stage, 0),
            (stage, epoch + 5),
            (other, epoch),
            (other, epoch - 1),
        ] {
            jobs.push(job(stage, uuid, epoch, &row[3]));
        }
        // The same under an id of somebody else's making.
        let mut copy = job(stage, uuid, epoch, &row[3]);
        copy.id = format!("copy-{}", chance.draw());
        jobs.push(copy);
    }
    for stage in Stage::ALL {
        jobs.push(job(stage, WorkflowExecutionId::generate().uuid(), 1, "1"));
        for payload in [
            &b"{"[..],
            b"",
            b"null",
            b"\xff\xfe\x00",
            b"{\"execution\": 7}",
            b"[]",
        ] {
            jobs.push(Job {
                stage,
                id: format!("broken-{}", chance.draw()),
                payload: payload.to_vec(),
            });
        }
    }
    chance.shuffle(&mut jobs);
    let mut redis = ground.redis().await?;
    for job in &jobs {
        let queue = queue(job.stage);
        let mut pipe = redis::pipe();
        pipe.hset(format!("{queue}:data"), &job.id, &job.payload)
            .hset_multiple(
                format!("{queue}:meta:{}", job.id),
                &[
                    ("attempts", "0"),
                    ("max_attempts", "1"),
                    ("status", "Pending"),
                ],
            )
            .publish(format!("tasks:{queue}:active:available"), &job.id);
        // As a stock producer does it, or straight into the list; now and then twice.
        match chance.below(4) {
            0 => pipe.zadd(format!("{queue}:scheduled"), &job.id, 1),
            1 => pipe.rpush(format!("{queue}:active"), &[&job.id, &job.id]),
            _ => pipe.rpush(format!("{queue}:active"), &job.id),
        };
        let _: redis::Value = pipe.query_async(&mut redis).await?;
    }
    Ok(format!("{} jobs", jobs.len()))
}

/// What a shuffle says that found nothing to reorder.
pub(crate) const NOTHING_WAITED: &str = "nothing waited";

/// Puts the jobs that wait in each queue into another order, as soon as there are two in one.
pub(crate) async fn shuffle(ground: &Ground, chance: &mut Chance) -> Result<String> {
    let mut redis = ground.redis().await?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        let mut moved = 0_u64;
        for stage in Stage::ALL {
            let ids: u64 = redis::cmd("EVAL")
                .arg(SHUFFLE)
                .arg(1)
                .arg(format!("{}:active", queue(stage)))
                .arg(chance.below(1 << 30))
                .query_async(&mut redis)
                .await?;
            moved += if ids > 1 { ids } else { 0 };
        }
        if moved > 0 {
            return Ok(format!("{moved} jobs waited"));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(NOTHING_WAITED.to_owned())
}

fn job(stage: Stage, execution: uuid::Uuid, epoch: i64, version: &str) -> Job {
    let ring = json!({
        "execution": WorkflowExecutionId::from(execution),
        "organization": OrganizationId::DEFAULT,
        "epoch": epoch,
        "version": version.parse::<i64>().unwrap_or(1),
    });
    Job {
        stage,
        id: format!("{stage}:{}:{epoch}", execution.simple()),
        payload: ring.to_string().into_bytes(),
    }
}

/// **Source:** the layout that producers in other languages write.
pub(crate) fn queue(stage: Stage) -> String {
    format!("graphmill:{stage}")
}
