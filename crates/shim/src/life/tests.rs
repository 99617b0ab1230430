//! Walks through a box's life.

use super::*;

const STOP: StopPolicy = StopPolicy { signal: Signal::TERM, grace_ms: 10_000 };

fn walk(after: AfterExit, events: &[Event]) -> (Life, Vec<Action>) {
    let now = Instant::now();
    let mut actions = Vec::new();
    let life = events.iter().fold(Life::starting(now), |life, event| {
        let (life, action) = life.take(event.clone(), after, now);
        actions.push(action);
        life
    });
    (life, actions)
}

fn left(memory: Memory) -> Left {
    Left { flush_error: None, memory }
}

#[test]
fn a_main_that_the_guests_kernel_killed_for_memory_ran_out_of_it() {
    let killed = Event::MainEnded(ExitStatus::Signal(Signal::KILL));
    let short = Event::GuestLeft(left(Memory::Short));
    let stop = Event::StopAsked(StopPolicy { signal: Signal::KILL, grace_ms: 0 });
    for after in [AfterExit::Keep, AfterExit::Remove] {
        let start = [Event::MainStarted, killed.clone()];
        let reason = |events: &[Event]| result(after, events).1;
        assert_eq!(
            reason(&[&start[..], std::slice::from_ref(&short)].concat()),
            ExitReason::OutOfMemory
        );
        let enough = Event::GuestLeft(left(Memory::Enough));
        assert_eq!(reason(&[&start[..], &[enough]].concat()), ExitReason::Exited);
        let vm = Event::VmExited("gone".into());
        assert_eq!(reason(&[&start[..], &[vm]].concat()), ExitReason::Exited);
        let asked = [Event::MainStarted, stop.clone(), killed.clone(), short.clone()];
        assert_eq!(reason(&asked), ExitReason::Exited);
    }
    let starved = [Event::MainStarted, Event::VmStarved("killed".into())];
    let got = result(AfterExit::Keep, &starved);
    assert_eq!(got, (ExitStatus::Unknown, ExitReason::HostOutOfMemory, 137));
}

fn result(after: AfterExit, events: &[Event]) -> (ExitStatus, ExitReason, u8) {
    match walk(after, events).0 {
        Life::Ending { exit } => (exit.status, exit.reason, exit.code),
        other => panic!("not at its end: {other:?}"),
    }
}

#[test]
fn g2_a_result_is_told_as_soon_as_it_can_change_no_more() {
    let after = |status| {
        let events = [Event::MainStarted, Event::MainEnded(status)];
        walk(AfterExit::Keep, &events).0.result().map(|exit| exit.status)
    };
    assert_eq!(after(ExitStatus::Code(3)), Some(ExitStatus::Code(3)));
    assert_eq!(after(ExitStatus::Signal(Signal::TERM)), Some(ExitStatus::Signal(Signal::TERM)));
    // It may have been the box's own kernel, for want of memory.
    assert_eq!(after(ExitStatus::Signal(Signal::KILL)), None);
}

#[test]
fn g2_main_s_result_is_kept_whatever_comes_after_it() {
    let code = ExitStatus::Code(7);
    let expected = (code, ExitReason::Exited, 7);
    for last in [
        Event::GuestLeft(left(Memory::Enough)),
        Event::VmExited("gone".into()),
        Event::LinkLost("gone".into()),
        Event::KillAsked,
        Event::DeadlinePassed,
    ] {
        let events = [Event::MainStarted, Event::MainEnded(code), last.clone()];
        assert_eq!(result(AfterExit::Keep, &events), expected, "{last:?}");
    }
    let events = [Event::MainStarted, Event::MainEnded(code), Event::VmExited("gone".into())];
    assert_eq!(result(AfterExit::Remove, &events), expected);
}

#[test]
fn g2_a_result_nobody_knows_is_unknown() {
    for (event, reason, code) in [
        (Event::VmExited("x".into()), ExitReason::VmDied, 255),
        (Event::LinkLost("x".into()), ExitReason::VmDied, 255),
        (Event::KillAsked, ExitReason::Killed, 137),
    ] {
        let got = result(AfterExit::Keep, &[Event::MainStarted, event]);
        assert_eq!(got, (ExitStatus::Unknown, reason, code));
    }
}

#[test]
fn g7_a_refused_main_is_no_start() {
    let refused = Event::MainRefused(StartRefusal::NotFound, "no".into());
    let got = result(AfterExit::Keep, &[refused]);
    assert_eq!(got, (ExitStatus::Unknown, ExitReason::Refused, 127));
    for event in [Event::VmExited("x".into()), Event::DeadlinePassed, Event::KillAsked] {
        let got = result(AfterExit::Keep, &[event]);
        assert_eq!(got, (ExitStatus::Unknown, ExitReason::FailedToStart, 125));
    }
}

#[test]
fn g8_a_stop_before_main_exists_is_handed_on_and_main_s_end_still_counts() {
    let ended = Event::MainEnded(ExitStatus::Signal(Signal::TERM));
    let events =
        [Event::StopAsked(STOP), Event::MainStarted, ended, Event::GuestLeft(left(Memory::Enough))];
    let (_, actions) = walk(AfterExit::Keep, &events);
    assert_eq!(actions[0], Action::AskStop(STOP));
    assert_eq!(actions[3], Action::EndVm);
    assert_eq!(result(AfterExit::Keep, &events).2, 143);
}

#[test]
fn g9_a_stop_that_runs_out_of_time_ends_the_vm() {
    let events = [Event::MainStarted, Event::StopAsked(STOP)];
    let (life, _) = walk(AfterExit::Keep, &events);
    assert!(life.deadline().unwrap() > Instant::now() + Duration::from_secs(10));
    let got = result(AfterExit::Keep, &[&events[..], &[Event::DeadlinePassed]].concat());
    assert_eq!(got, (ExitStatus::Unknown, ExitReason::Killed, 137));
}

#[test]
fn h5_a_paused_box_goes_on_or_is_made_to_to_end() {
    let paused = [Event::MainStarted, Event::PauseAsked];
    let (life, actions) = walk(AfterExit::Keep, &paused);
    assert_eq!((life.state(), &actions[1]), (BoxState::Paused, &Action::Pause));
    let then = |event: Event| walk(AfterExit::Keep, &[&paused[..], &[event]].concat());
    let (life, actions) = then(Event::UnpauseAsked);
    assert_eq!((life, &actions[2]), (Life::Running, &Action::Unpause));
    assert_eq!(then(Event::PauseFailed).0, Life::Running);
    assert_eq!(then(Event::PauseAsked).0, Life::Paused);
    let (life, actions) = then(Event::StopAsked(STOP));
    assert_eq!((life.state(), &actions[2]), (BoxState::Stopping, &Action::UnpauseAndStop(STOP)));
    assert!(matches!(then(Event::KillAsked).0, Life::Ending { .. }));
    assert!(matches!(then(Event::VmExited("x".into())).0, Life::Ending { .. }));
    // Only what runs can be paused.
    let (life, actions) = walk(AfterExit::Keep, &[Event::PauseAsked]);
    assert_eq!((life.state(), &actions[0]), (BoxState::Starting, &Action::None));
}

#[test]
fn a_second_stop_shortens_the_first() {
    let now = Instant::now();
    let hurry = StopPolicy { signal: Signal::TERM, grace_ms: 0 };
    let (life, _) = Life::Running.take(Event::StopAsked(STOP), AfterExit::Keep, now);
    let (life, action) = life.take(Event::StopAsked(hurry), AfterExit::Keep, now);
    assert_eq!(life.deadline(), Some(now + BEYOND_GRACE));
    assert_eq!(action, Action::AskStop(hurry));
}
