//! The conversation with one VM's guest, from its greeting to main's last word, under the supervisor's eyes.
//! Called by `launch`.

use std::rc::Rc;

use boxwood_state::events::Action;
use boxwood_state::{Client, ExitRecord, failpoint};
use boxwood_types::{ExitReason, ExitStatus, chain};
use boxwood_wire::frame::{CONTROL_PORT, MAIN_PORT};
use boxwood_wire::message::MainRequest;
use boxwood_wire::preface::Mark;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use crate::clients::{self, Connection, MainStdin};
use crate::greeting;
use crate::life::Event;
use crate::link::{Link, LinkError, Stream};
use crate::main_io;
use crate::orders::Orders;
use crate::output::Output;
use crate::questions::{Answers, Questions};
use crate::restore::Restored;
use crate::steps::Steps;
use crate::supervisor::{Ears, Guest, News, Supervisor};

/// News from the guest that wait for the supervisor.
const NEWS: usize = 16;

pub(crate) fn failed_to_start(why: String) -> ExitRecord {
    ExitRecord {
        status: ExitStatus::Unknown,
        reason: ExitReason::FailedToStart,
        code: 125,
        message: Some(why),
    }
}

/// Greets the guest, starts main, and supervises both to their end.
pub(crate) async fn converse(
    supervisor: &mut Supervisor,
    restored: &mut Restored,
    starter: Option<Connection>,
    ears: &mut Ears,
) -> ExitRecord {
    let counters = supervisor.announcer.counters.clone();
    counters.begin_run();
    let link = Link::new(counters.clone());
    let streams = link.open(MAIN_PORT).and_then(|main| Ok((main, link.open(CONTROL_PORT)?)));
    let (main, control) = match streams {
        Ok(streams) => streams,
        Err(error) => return failed_to_start(chain(&error)),
    };
    let (asked_for_sender, asked_for) = oneshot::channel();
    let open_stdin = supervisor.spec.process.open_stdin;
    if let Some(starter) = starter {
        let stdin = open_stdin.then(|| MainStdin { writer: main.writer(), asked_for });
        let client = clients::adopt_starter(starter, stdin);
        if supervisor.spec.client == Client::Attached {
            supervisor.output.attach(client.clone());
            supervisor.announcer.say(&Action::Attach);
        }
        supervisor.run.starter = Some(client);
    }
    let (orders, answers) = (Orders::over(control.writer()), Answers::default());
    let guest = Guest {
        link: link.clone(),
        questions: Questions::over(orders.clone(), answers.clone()),
        orders,
        stdin: open_stdin.then(|| main.writer()),
    };
    let (news_sender, events) = mpsc::channel(NEWS);
    let mut news = News { events, sender: news_sender.clone(), main: None };
    let conversation = Conversation {
        link,
        hostname: supervisor.spec.hostname.clone(),
        mark: restored.mark,
        main: main_io::main_request(&supervisor.spec, restored.main),
        output: supervisor.output.clone(),
        steps: supervisor.run.steps.clone(),
        news: news_sender.clone(),
        asked_for: asked_for_sender,
    };
    if let Some(channel) = restored.vm.take_channel() {
        news.main = Some(tokio::task::spawn_local(conversation.lead(channel, main)));
    }
    guest.link.hear(
        control,
        main_io::control_ear(counters, (answers, supervisor.run.relays.untold()), news_sender),
    );
    let exit = supervisor.supervise(&mut restored.vm, &guest, (&mut news, ears)).await;
    // Nothing more is heard from it; the sessions' clients are told why.
    guest.link.end();
    exit
}

/// What is needed to talk to a guest from its first word to main's last.
struct Conversation {
    link: Link,
    hostname: String,
    mark: Option<Mark>,
    main: MainRequest,
    output: Rc<Output>,
    steps: Steps,
    news: mpsc::Sender<Event>,
    asked_for: oneshot::Sender<()>,
}

impl Conversation {
    async fn lead(self, mut channel: UnixStream, main: Stream) {
        let writer = main.writer();
        let ask = async {
            let sent = writer.send_value(&self.main).await;
            // Nobody listens where standard input is not connected.
            let _ = self.asked_for.send(());
            sent
        };
        let greet = async {
            let hello = greeting::hello(&self.hostname)?;
            let behind = self.link.take_output();
            let early = greeting::greet(&mut channel, (hello, self.mark), behind).await?;
            self.steps.mark("reborn");
            failpoint("shim: guest greeted");
            tokio::task::spawn_local(self.link.clone().run(channel, early));
            Ok::<(), greeting::GreetingError>(())
        };
        // In this order: what fits is sent in one breath with the greeting.
        let (sent, greeted) = tokio::join!(ask, greet);
        let failure = match (greeted, sent) {
            (Err(error), _) => Some(chain(&error)),
            // Main's stream tells, too, and better: the guest may have refused what was sent.
            (Ok(()), Err(LinkError::Frame(error))) => Some(chain(&*error)),
            (Ok(()), _) => None,
        };
        match failure {
            // The supervisor goes only when the box has ended.
            Some(why) => drop(self.news.send(Event::StartFailed(why)).await),
            None => main_io::follow_main(main, self.output, self.news).await,
        }
    }
}
