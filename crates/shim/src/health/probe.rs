//! One probe: a sign of life, or a command in the box. What it says are a guest's claims.
//!
//! A guest that was well gives its next signs of life by itself (see [`pulse`]), and is asked only when one is
//! late: its timer is not ours, and no reason to be called unwell.

use std::io;
use std::time::Duration;

use boxwood_state::clock::Moment;
use boxwood_state::{HealthSpec, ProbeResult, ProcessSpec};
use boxwood_types::ExitStatus;
use boxwood_wire::frame::{self, EXEC_PORT, Kind};
use boxwood_wire::message::{Attachment, ProcessReply, StartSession};

use crate::health::alarm::Alarm;
use crate::health::pulse::{self, Pulse};
use crate::link::{Link, LinkError, Stream};
use crate::main_io;
use crate::questions::Questions;

/// The most of a probe's output that is kept, in bytes: as Docker.
const OUTPUT: usize = 4096;
/// What a guest may take beyond the timeout it was given.
const BEYOND: Duration = Duration::from_secs(2);
/// The code of a probe that came to no result.
const NO_RESULT: i32 = -1;

/// What probes are made with.
pub(super) struct Prober {
    pub(super) link: Link,
    pub(super) questions: Questions,
    pub(super) main: ProcessSpec,
}

/// A sign of life that a guest gave by itself, or what came of asking for it.
pub(super) enum Sign {
    Given(ProbeResult),
    AskedFor(ProbeResult),
}

impl Prober {
    /// Makes one, in the time that `alarm` is set to.
    pub(super) async fn probe(&self, spec: &HealthSpec, alarm: &Alarm) -> ProbeResult {
        let start = Moment::now();
        let timeout = Duration::from_millis(spec.timeout_ms);
        let (exit_code, output) = match spec.probe.argv() {
            None => self.ask(alarm, timeout).await,
            Some(argv) => {
                let process = ProcessSpec {
                    argv,
                    entrypoint_len: 0,
                    open_stdin: false,
                    terminal: None,
                    ..self.main.clone()
                };
                self.run(process, timeout).await
            }
        };
        ProbeResult { start, end: Moment::now(), exit_code, output }
    }

    /// Listens to a guest that was well until a sign of life of its own is late, and asks for one then. The
    /// result if it was asked: none is no failure while it comes in the time that an answer may take.
    pub(super) async fn listen(
        &self,
        spec: &HealthSpec,
        pulse: &Pulse,
        alarm: &Alarm,
    ) -> io::Result<Sign> {
        alarm.rings().await?;
        let late = pulse::lateness(spec);
        let start = before(Moment::now(), late);
        let timeout = Duration::from_millis(spec.timeout_ms);
        let (exit_code, output) = tokio::select! {
            biased;
            Ok(()) = pulse.ask() => return Ok(Sign::Given(pulse::given())),
            answer = self.ask(alarm, timeout.saturating_sub(late)) => answer,
        };
        Ok(Sign::AskedFor(ProbeResult { start, end: Moment::now(), exit_code, output }))
    }

    async fn ask(&self, alarm: &Alarm, within: Duration) -> (i32, String) {
        match self.questions.ping_until(rings(alarm, within)).await {
            Ok(_) => (0, String::new()),
            Err(why) => (NO_RESULT, why.to_string()),
        }
    }

    async fn run(&self, process: ProcessSpec, timeout: Duration) -> (i32, String) {
        let mut stream = match self.link.open(EXEC_PORT) {
            Ok(stream) => stream,
            Err(error) => return (NO_RESULT, main_io::words(&error)),
        };
        let request = StartSession {
            process: main_io::process(&process),
            timeout_ms: u64::try_from(timeout.as_millis()).ok(),
            attachment: Attachment::Attached,
        };
        let mut said = Vec::new();
        let talk = async {
            stream.writer().send_value(&request).await?;
            follow(&mut stream, &mut said).await
        };
        // The guest kills what takes too long, and says so; one that does not is not waited for.
        let code = match tokio::time::timeout(timeout + BEYOND, talk).await {
            Ok(Ok(End::Exited(code))) => return (code, text(&said)),
            Ok(Ok(End::TimedOut)) | Err(_) => {
                stream.abort();
                let words = format!("Health check exceeded timeout ({})", seconds(timeout));
                said.extend_from_slice(words.as_bytes());
                NO_RESULT
            }
            Ok(Ok(End::NotStarted(code, why))) => {
                said.extend_from_slice(why.as_bytes());
                code
            }
            Ok(Err(error)) => {
                said.extend_from_slice(main_io::words(&error).as_bytes());
                NO_RESULT
            }
        };
        (code, text(&said))
    }
}

fn before(moment: Moment, by: Duration) -> Moment {
    Moment(moment.0.saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}

/// When this long is over. A timer that fails is over, too: then the check ends with it.
async fn rings(alarm: &Alarm, after: Duration) {
    let _ = alarm.after(after).await;
}

enum End {
    Exited(i32),
    TimedOut,
    NotStarted(i32, String),
}

async fn follow(stream: &mut Stream, said: &mut Vec<u8>) -> Result<End, LinkError> {
    loop {
        let Some(frame) = stream.next_frame().await? else { return Err(LinkError::Aborted) };
        match frame.kind {
            Kind::Stdout | Kind::Stderr => {
                let room = OUTPUT.saturating_sub(said.len());
                said.extend_from_slice(&frame.payload[..frame.payload.len().min(room)]);
            }
            _ => match frame::parse::<ProcessReply>(&frame.payload) {
                Ok(ProcessReply::Started) => {}
                Ok(ProcessReply::Exited { status: ExitStatus::Unknown }) => {
                    return Ok(End::Exited(NO_RESULT));
                }
                Ok(ProcessReply::Exited { status }) => {
                    return Ok(End::Exited(i32::from(status.shell_code())));
                }
                Ok(ProcessReply::TimedOut) => return Ok(End::TimedOut),
                Ok(ProcessReply::Refused { refusal, reason }) => {
                    return Ok(End::NotStarted(i32::from(refusal.shell_code()), reason));
                }
                Ok(ProcessReply::Failed { reason, .. }) => {
                    return Ok(End::NotStarted(NO_RESULT, reason));
                }
                Ok(ProcessReply::Declined(_) | ProcessReply::Conflict) => {
                    let why = "the guest takes no commands".to_owned();
                    return Ok(End::NotStarted(NO_RESULT, why));
                }
                Err(error) => return Err(LinkError::Frame(std::rc::Rc::new(error))),
            },
        }
    }
}

/// Bytes of a guest as text of a bounded length.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(OUTPUT)]).into_owned()
}

fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}
