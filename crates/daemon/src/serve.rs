//! The life of the daemon, from its first socket to its last client. Called by `boxwood serve`.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use boxwood_runtime::state::failpoint;
use boxwood_runtime::{Error, Runtime};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;
use tower_service::Service;

use crate::app::{App, Ending, to_the_end};
use crate::auth::Token;
use crate::connection::Connection;
use crate::listen::{self, Arrival, Door, Doors, ListenError};
use crate::openapi;
use crate::options::Options;
use crate::room::{Held, Room, Seat};
use crate::routes::start;

/// The most connections at the same time. Who comes then takes the place of a silent one.
const CONNECTIONS: usize = 512;
/// The most threads for what blocks. A request has two when it works on files: with as many threads as
/// connections, each could have its first and wait for its second.
const THREADS: usize = 4 * CONNECTIONS;
/// How long a client may take for the head of a request, and for a handshake.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// What is going on when the daemon is to end has so long.
const GRACE: Duration = Duration::from_secs(10);
/// How long what was cut off may take to let go.
const LETTING_GO: Duration = Duration::from_secs(1);
/// How long nobody is let in after the host had no more room for one.
const NO_ROOM: Duration = Duration::from_millis(200);

/// Why a daemon did not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no event loop.
    #[error("can't start the event loop")]
    Loop(#[source] io::Error),
    /// Nobody could come in.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The home can't be read.
    #[error(transparent)]
    Home(#[from] Error),
}

/// Serves until it is told to end (SIGTERM, SIGINT). `tell` is given a line for people now and then.
///
/// # Errors
/// When it could not begin. Nothing is left behind.
pub fn serve(
    runtime: Runtime,
    options: &Options,
    tell: &mut dyn FnMut(&str),
) -> Result<(), ServeError> {
    let event_loop = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(THREADS)
        .build()
        .map_err(ServeError::Loop)?;
    let served = event_loop.block_on(live(runtime, options, tell));
    // What still blocks a thread is safe to be left: a box being made is found by the next recovery.
    event_loop.shutdown_background();
    served
}

async fn live(
    runtime: Runtime,
    options: &Options,
    tell: &mut dyn FnMut(&str),
) -> Result<(), ServeError> {
    let told = Told::listen().map_err(ServeError::Loop)?;
    runtime.recover()?;
    // From here on its socket can be seen; it goes with `doors`, on every way out.
    let doors = listen::open(options, runtime.home().root()).await?;
    failpoint("daemon: listening");
    let app = App::new(Arc::new(runtime));
    let runtime = Arc::clone(&app.runtime);
    app.ending.tasks.spawn(to_the_end(move || async move {
        start::due(&runtime, &mut |line| complain(line)).await
    }));
    let ending = app.ending.clone();
    let router = openapi::router(app);
    let room = Room::new(CONNECTIONS);
    let Doors { doors, addresses, file } = doors;
    for door in doors {
        ending.tasks.spawn(admit(door, router.clone(), ending.clone(), room.clone()));
    }
    tell(&format!("serving on {}", addresses.join(" and ")));
    // Without a service manager there is nobody to notify.
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    told.heard().await;
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    drop(router);
    ending.said.cancel();
    failpoint("daemon: told to end");
    ending.tasks.close();
    // Nobody new; who is there has so long, attached boxes are being stopped (contract H8).
    if timeout(GRACE, ending.tasks.wait()).await.is_err() {
        ending.due.cancel();
        let _ = timeout(LETTING_GO, ending.tasks.wait()).await;
    }
    drop(file);
    Ok(())
}

/// The signals that end the daemon.
struct Told {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Told {
    fn listen() -> io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Told { term, int })
    }

    async fn heard(mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Lets clients in until the daemon is to end.
async fn admit(door: Door, router: Router, ending: Ending, room: Room) {
    loop {
        // Somebody has to be at the door before somebody else is sent away.
        let arrival = async {
            let arrival = door.accept().await;
            (if arrival.is_ok() { room.seat().await } else { None }, arrival)
        };
        let (seat, arrival) = tokio::select! {
            biased;
            () = ending.said.cancelled() => return,
            arrived = arrival => arrived,
        };
        match arrival {
            Ok(arrival) => {
                // The room is never closed.
                let Some(seat) = seat else { return };
                ending.tasks.spawn(receive(arrival, seat, router.clone(), ending.clone()));
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                complain(&format!("can't let a client in: {error}"));
                // No descriptors or no memory: that there are some again is no event.
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
}

/// Whether it went again before it was let in.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

/// Serves one client until it goes, or the daemon is to end.
async fn receive(arrival: Arrival, seat: Arc<Seat>, router: Router, ending: Ending) {
    let (connection, token) = match arrival {
        Arrival::Unix(stream) => (Connection::Unix(stream), None),
        Arrival::Tcp(stream, guard) => match guard.tls {
            None => (Connection::Tcp(stream), Some(guard.token)),
            Some(tls) => {
                let shaken = tokio::select! {
                    shaken = timeout(HEAD_WITHIN, tls.accept(stream)) => shaken,
                    () = seat.leave.cancelled() => return,
                };
                match shaken {
                    Ok(Ok(stream)) => (Connection::Tls(Box::new(stream)), Some(guard.token)),
                    // It speaks something else, or nothing.
                    _ => return,
                }
            }
        },
    };
    let asking = Arc::clone(&seat);
    let service = service_fn(move |request| {
        let answered = answer(request, token.clone(), router.clone());
        let busy = asking.asks();
        async move {
            // Sent away in this very moment: nothing was done.
            let Some(busy) = busy else {
                return Ok(StatusCode::SERVICE_UNAVAILABLE.into_response());
            };
            let answer = answered.await?;
            Ok::<_, Infallible>(answer.map(|body| Body::new(Held::new(body, busy))))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(connection), service)
        .with_upgrades();
    tokio::pin!(connection);
    // How a connection ended is the client's affair.
    tokio::select! {
        _ = &mut connection => return,
        () = seat.leave.cancelled() => return,
        () = ending.said.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = &mut connection => {}
        () = ending.due.cancelled() => {}
    }
}

async fn answer(
    request: Request<Incoming>,
    token: Option<Arc<Token>>,
    mut router: Router,
) -> Result<Response, Infallible> {
    if let Some(Err(refused)) = token.map(|token| token.check(request.headers())) {
        return Ok(refused.into_response());
    }
    let what = format!("{} {}", request.method(), request.uri().path());
    let answer = router.call(request.map(Body::new)).await?;
    // That one is the client's doing.
    if answer.status().is_server_error()
        && answer.status() != StatusCode::HTTP_VERSION_NOT_SUPPORTED
    {
        complain(&format!("{what}: {}", answer.status()));
    }
    Ok(answer)
}

/// Says a line on standard error, where a service manager keeps it.
pub(crate) fn complain(text: &str) {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    // In one piece; where it can't be written there is nobody to tell.
    let _ = io::stderr().lock().write_all(format!("boxwood: {text}\n").as_bytes());
}
