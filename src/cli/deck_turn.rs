//! What a query of the deck waits for before it may begin, and how a cancel ends that wait. Called by `deck`.

use std::future::Future;

use tokio::sync::{OwnedMutexGuard, RwLock, RwLockReadGuard};
use tokio_util::sync::CancellationToken;

/// Held while a query runs: its turn, what it runs on, the engine with no adapter being swapped.
pub type Admitted<'a, T> = (OwnedMutexGuard<()>, T, RwLockReadGuard<'a, ()>);

/// Wait for the query's `turn`, for the parts to be `ready`, for the machine to be `free` of a training step and for the
/// engine to be free of loading and comparing.
///
/// # Errors
/// The parts cannot be put together, or the query was cancelled before it had all of it.
pub async fn admitted<'a, T, R, F>(
    cancel: &CancellationToken,
    turn: impl Future<Output = OwnedMutexGuard<()>>,
    ready: impl Fn() -> R,
    free: impl Fn(T) -> F,
    engine: &'a RwLock<()>,
) -> Result<Admitted<'a, T>, String>
where
    R: Future<Output = Result<T, String>>,
    F: Future<Output = ()>,
{
    let begins = async {
        let turn = turn.await;
        // What cannot be put together is told at once.
        let parts = ready().await?;
        // Before the engine is held, so that a rollback need not wait for a step that this waits for.
        free(parts).await;
        let planning = engine.read().await;
        // What served when it was asked may have given way meanwhile.
        Ok((turn, ready().await?, planning))
    };
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err("cancelled before anything ran".to_string()),
        begun = begins => begun,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::{Mutex, Notify};

    use super::*;

    /// Whether a query is let in, or told of its cancel, while something of it is still held by another.
    async fn cancelled_while(engine: &RwLock<()>, turn: &Arc<Mutex<()>>, cores: &Notify) -> bool {
        let cancel = CancellationToken::new();
        let free = |_| cores.notified();
        let turn = turn.clone().lock_owned();
        let waits = admitted(&cancel, turn, || std::future::ready(Ok("parts")), free, engine);
        tokio::pin!(waits);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut waits).await;
        assert!(early.is_err(), "it waits");
        cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), waits).await.expect("it goes on waiting");
        ended.is_err_and(|why| why.starts_with("cancelled"))
    }

    #[tokio::test]
    async fn a_query_that_waits_is_cancelled_at_once_whatever_it_waits_for() {
        let (engine, turn, cores) = (RwLock::new(()), Arc::new(Mutex::new(())), Notify::new());
        let loading = engine.write().await;
        cores.notify_one();
        assert!(cancelled_while(&engine, &turn, &cores).await, "a model loads");
        drop(loading);
        let running = turn.lock().await;
        assert!(cancelled_while(&engine, &turn, &cores).await, "another query runs");
        drop(running);
        assert!(cancelled_while(&engine, &turn, &cores).await, "a step computes");
        // While it waits for that step nothing keeps the adapter from being changed.
        let cancel = CancellationToken::new();
        let (ready, free) = (|| std::future::ready(Ok("parts")), |_| cores.notified());
        let mut waits = Box::pin(admitted(&cancel, turn.lock_owned(), ready, free, &engine));
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(engine.try_write().expect("the engine is free"));
        cores.notify_one();
        let (_, parts, _) = waits.await.unwrap();
        assert_eq!(parts, "parts");
    }
}
