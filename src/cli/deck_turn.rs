//! What a query of the deck waits for before it may begin, and how a cancel ends that wait. Called by `deck`.

use std::future::Future;

use tokio::sync::{OwnedMutexGuard, RwLock, RwLockReadGuard};
use tokio_util::sync::CancellationToken;

/// Held while a query runs: its turn, what it runs on, the engine with no adapter being swapped.
pub type Admitted<'a, T> = (OwnedMutexGuard<()>, T, RwLockReadGuard<'a, ()>);

/// Wait for the query's `turn`, for the parts to be `ready` and for the engine to be free of loading and comparing.
///
/// # Errors
/// The parts cannot be put together, or the query was cancelled before it had all of it.
pub async fn admitted<'a, T, R>(
    cancel: &CancellationToken,
    turn: impl Future<Output = OwnedMutexGuard<()>>,
    ready: impl Fn() -> R,
    engine: &'a RwLock<()>,
) -> Result<Admitted<'a, T>, String>
where
    R: Future<Output = Result<T, String>>,
{
    let begins = async {
        let turn = turn.await;
        // What cannot be put together is told at once.
        ready().await?;
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

    use tokio::sync::Mutex;

    use super::*;

    /// Whether a query is let in, or told of its cancel, while something of it is still held by another.
    async fn cancelled_while(engine: &RwLock<()>, turn: &Arc<Mutex<()>>) -> bool {
        let cancel = CancellationToken::new();
        let waits = admitted(&cancel, turn.clone().lock_owned(), || std::future::ready(Ok("parts")), engine);
        tokio::pin!(waits);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut waits).await;
        assert!(early.is_err(), "it waits");
        cancel.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), waits).await.expect("it goes on waiting");
        ended.is_err_and(|why| why.starts_with("cancelled"))
    }

    #[tokio::test]
    async fn a_query_that_waits_is_cancelled_at_once_whatever_it_waits_for() {
        let (engine, turn) = (RwLock::new(()), Arc::new(Mutex::new(())));
        let loading = engine.write().await;
        assert!(cancelled_while(&engine, &turn).await, "a model loads");
        drop(loading);
        let running = turn.lock().await;
        assert!(cancelled_while(&engine, &turn).await, "another query runs");
        drop(running);
        let cancel = CancellationToken::new();
        let ready = || std::future::ready(Ok("parts"));
        let (_, parts, _) = admitted(&cancel, turn.lock_owned(), ready, &engine).await.unwrap();
        assert_eq!(parts, "parts");
    }
}
