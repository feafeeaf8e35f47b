//! Beginning a transaction, whoever leaves meanwhile.
//!
//! A future may be dropped at any `await`: a client closes its connection, a request's time is over, work is cancelled.
//! sqlx rolls a dropped transaction back, but not one whose `begin` was sent and not answered yet: that connection would
//! go back to the pool inside of an open transaction, with the organization that was set in it. Invariant: a `begin`
//! that was sent is waited for, if not by whoever wanted it then by a task of its own, which rolls it back.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, PgPool, SqlSafeStr, Transaction};

use super::AppTransaction;

/// A transaction of `pool` that begins with `statement`, else with a plain `begin`.
pub(super) async fn begin(
    pool: &PgPool,
    statement: Option<String>,
) -> Result<AppTransaction, sqlx::Error> {
    // Whoever leaves here leaves nothing behind.
    let connection = pool.acquire().await?;
    let statement = statement.map(|statement| AssertSqlSafe(statement).into_sql_str());
    Beginning(Some(Transaction::begin(connection, statement))).await
}

type Begins = BoxFuture<'static, Result<AppTransaction, sqlx::Error>>;

struct Beginning(Option<Begins>);

impl Future for Beginning {
    type Output = Result<AppTransaction, sqlx::Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(begins) = &mut self.0 else {
            return Poll::Pending;
        };
        let begun = ready!(begins.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(begun)
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let (Some(begins), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        // What it begins is dropped with its answer, and so rolled back.
        runtime.spawn(async move { begins.await.is_ok() });
    }
}
