//! What all requests share: the runtime, what the daemon remembers, and whether it is about to end.
//! Made once by `serve`; called by the routes.

use std::future::Future;
use std::sync::Arc;

use boxwood_runtime::{Listed, Runtime};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::ApiError;
use crate::execs::Execs;
use crate::keys::Keys;

/// What a request can reach.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) execs: Arc<Execs>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) ending: Ending,
}

/// How the daemon ends: first it is said, then it is done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// From here on nothing new is begun, and what would go on for ever ends.
    pub(crate) said: CancellationToken,
    /// From here on nothing is waited for.
    pub(crate) due: CancellationToken,
    /// What is still going on: connections, and streams that were connections.
    pub(crate) tasks: TaskTracker,
}

impl App {
    pub(crate) fn new(runtime: Arc<Runtime>) -> Self {
        App { runtime, execs: Arc::default(), keys: Arc::default(), ending: Ending::default() }
    }

    /// The box that a path names.
    pub(crate) async fn find(&self, name: String) -> Result<Listed, ApiError> {
        let runtime = Arc::clone(&self.runtime);
        blocking(move || Ok(runtime.find(&name)?)).await
    }
}

impl App {
    /// The box with this name; one whose main has ended, when it has ended itself.
    pub(crate) async fn look(&self, name: String) -> Result<Listed, ApiError> {
        let settled = self.runtime.settle(vec![self.find(name.clone()).await?]).await;
        match settled.into_iter().next() {
            Some(listed) => Ok(listed),
            None => self.find(name).await,
        }
    }
}

/// Does what blocks for a moment where that is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ApiError::internal(error.to_string())),
    }
}

/// Runs something to its end on a thread of its own: it blocks now and then, or is not to be left
/// half-done when the client goes.
pub(crate) async fn to_the_end<T, F>(
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>>,
{
    let handle = Handle::current();
    blocking(move || handle.block_on(work())).await
}

/// The same for what is given up when the client goes, as a command is by Ctrl-C: at the next step at which it
/// waits for something.
pub(crate) async fn while_wanted<T, F>(
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ApiError>>,
{
    let gone = CancellationToken::new();
    let _client = gone.clone().drop_guard();
    to_the_end(move || async move {
        let done = gone.run_until_cancelled_owned(work()).await;
        done.unwrap_or_else(|| Err(ApiError::internal("the client has gone")))
    })
    .await
}
