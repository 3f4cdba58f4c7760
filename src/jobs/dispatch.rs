//! The dispatch of jobs: each runs in a task of its own, as many at a time as its
//! queue gives out.

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs what `next` gives until `stop` is cancelled, and waits for what runs by then.
/// What still runs when this is dropped is cut off.
pub(super) async fn dispatch<T, N, R>(
    stop: &CancellationToken,
    next: impl Fn() -> N,
    run: impl Fn(T) -> R,
) where
    N: Future<Output = T>,
    R: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            taken = stop.run_until_cancelled(next()) => match taken {
                Some(taken) => {
                    running.spawn(run(taken));
                }
                None => break,
            },
            Some(_) = running.join_next() => {}
        }
    }
    while running.join_next().await.is_some() {}
}
