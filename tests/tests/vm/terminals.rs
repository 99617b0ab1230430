//! Terminals: `run -it`, `exec -it`, `attach`. Each test types at a real terminal and reads what it
//! shows; that the terminal is as before when the command has ended is checked by all of them.

use boxwood_tests::Lab;
use rustix::process::Signal;

#[test]
fn g7_a_session_has_a_terminal_of_the_users_size_that_follows_it() {
    let lab = Lab::new();
    lab.idle("web");
    let mut user = lab.terminal(["exec", "-it", "web", "sh"]);
    user.shows("# ");
    assert!(user.is_raw());
    user.types("tty; stty size; echo $TERM\n");
    user.shows("/dev/pts/0\r\n24 80\r\nxterm\r\n");
    user.types("exit 5\n");
    user.wait().exits(5);
    let script = "trap 'echo now $(stty size)' WINCH; echo set; while :; do sleep 0.1; done";
    let mut user = lab.terminal(["exec", "-it", "web", "sh", "-c", script]);
    user.shows("set\r\n");
    user.resize(31, 101);
    user.shows("now 31 101\r\n");
    user.types("\x03");
    user.wait().exits(130);
    lab.remove("web");
}

#[test]
fn g7_control_characters_and_job_control_work() {
    let lab = Lab::new();
    lab.idle("web");
    let mut user = lab.terminal(["exec", "-it", "web", "sh"]);
    user.shows("# ");
    user.types("sh -c 'echo go; exec sleep 600'\n");
    user.shows("\r\ngo\r\n");
    user.types("\x03");
    user.shows("# ");
    user.types("echo rc=$?\n");
    user.shows("\r\nrc=130\r\n");
    // It says when it was woken, which is when it has the terminal again.
    user.types("sh -c 'trap \"echo woken\" CONT; echo go; while :; do sleep 0.1; done'\n");
    user.shows("\r\ngo\r\n");
    user.types("\x1a");
    user.shows("Stopped");
    user.types("jobs\n");
    user.shows("[1]+  Stopped");
    user.types("fg\n");
    user.shows("\r\nwoken\r\n");
    user.types("\x03");
    user.shows("# ");
    user.types("\x04");
    user.wait().exits(130);
    lab.remove("web");
}

#[test]
fn g3_a_terminal_shows_all_that_was_written_and_waits_for_nobody() {
    let lab = Lab::new();
    lab.idle("web");
    let script =
        "sleep 600 & cat /proc/kallsyms | head -c 100000 | tr '\\n' ' '; echo; echo end; exit 4";
    let user = lab.terminal(["exec", "-it", "web", "sh", "-c", script]);
    let shown = user.wait().exits(4).text();
    assert!(shown.ends_with("\r\nend\r\n") && shown.len() == 100_000 + 7, "{} bytes", shown.len());
    // Without -i it is only looked at, and may go to a file.
    let looked = lab.exec(["-t", "web", "sh", "-c", "tty; echo err >&2"]).output();
    looked.exits(0).prints("/dev/pts/0\r\nerr\r\n").quietly();
    lab.remove("web");
}

#[test]
fn g1_main_has_a_terminal_from_its_first_byte() {
    let lab = Lab::new();
    let mut user = lab.terminal(["run", "--rm", "-it", "busybox"]);
    // Typed before there is a box.
    user.types("tty; stty size; id -u; exit 3\n");
    user.shows("/dev/pts/0\r\n24 80\r\n0\r\n");
    user.wait().exits(3);
    let mut user = lab.terminal(["run", "--rm", "-it", "-u", "1234", "busybox", "sh"]);
    user.shows("$ ");
    user.types("echo mine > $(tty); exit\n");
    user.shows("\r\nmine\r\n");
    user.wait().exits(0);
    lab.is_clean();
}

#[test]
fn h7_a_detached_box_stays_and_is_attached_to_again() {
    let lab = Lab::new();
    let mut user = lab.terminal(["run", "-it", "--name", "shell", "busybox"]);
    user.shows("# ");
    user.types("echo one\n");
    user.shows("\r\none\r\n");
    user.types("\x10\x11");
    user.shows("detached");
    user.wait().exits(0);
    assert_eq!(lab.state("shell"), "running");
    let mut user = lab.terminal(["attach", "--detach-keys", "ctrl-x,x", "shell"]);
    user.types("echo two\n");
    user.shows("\r\ntwo\r\n");
    user.types("\x18x");
    user.wait().exits(0);
    let mut user = lab.terminal(["attach", "shell"]);
    user.resize(40, 90);
    user.types("stty size; exit 6\n");
    user.shows("\r\n40 90\r\n");
    user.wait().exits(6);
    assert_eq!(lab.inspect("shell", "{{.State.ExitCode}} {{.Config.Tty}}"), "6 true");
    lab.boxwood(["logs", "shell"]).output().exits(0);
    let mut user = lab.terminal(["start", "-ai", "shell"]);
    user.shows("# ");
    user.types("stty size; exit 8\n");
    user.shows("\r\n24 80\r\n");
    user.wait().exits(8);
    lab.remove("shell");
}

#[test]
fn h7_a_terminal_that_is_gone_ends_the_box_that_was_started_in_it() {
    let lab = Lab::new();
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";
    let mut user = lab.terminal(["run", "--name", "one", "-it", "busybox", "sh", "-c", script]);
    user.shows("ready\r\n");
    user.signal(Signal::HUP);
    user.wait().exits(129);
    lab.boxwood(["wait", "one"]).output().exits(0).prints("0\n");
    lab.remove("one");
}

#[test]
fn g6_a_session_goes_with_its_terminal_unless_it_is_detached() {
    let lab = Lab::new();
    lab.idle("web");
    lab.exec(["web", "mkfifo", "/held"]).output().exits(0);
    for signal in [Signal::TERM, Signal::HUP, Signal::KILL] {
        let heard = lab.exec(["web", "sh", "-c", "exec 3</held; echo open; cat <&3"]).spawn();
        let mut user =
            lab.terminal(["exec", "-it", "web", "sh", "-c", "exec 4>/held; echo ready; cat"]);
        user.shows("ready\r\n");
        user.signal(signal);
        if signal == Signal::KILL {
            // Nobody is left to put the terminal right.
            std::mem::forget(user);
        } else {
            user.wait().exits(128 + signal.as_raw());
        }
        heard.wait().exits(0).prints("open\n");
    }
    lab.exec(["web", "mkfifo", "/go"]).output().exits(0);
    let mut user =
        lab.terminal(["exec", "-it", "web", "sh", "-c", "echo ready; cat /go; echo on > /held"]);
    user.shows("ready\r\n");
    user.types("\x10\x11");
    user.shows("detached");
    user.wait().exits(0);
    let on = lab.exec(["web", "sh", "-c", "echo > /go; cat /held"]).output();
    on.exits(0).prints("on\n");
    lab.remove("web");
}

#[test]
fn h7_a_user_leaves_a_process_that_reads_nothing_too() {
    let lab = Lab::new();
    lab.idle("web");
    for name in [&["exec", "-it", "web"][..], &["run", "-it", "--name", "main", "busybox"]] {
        let script = "stty raw -echo; echo ready; sleep 600";
        let mut user = lab.terminal(name.iter().chain(&["sh", "-c", script]));
        user.shows("ready");
        // More than all that is on the way to the process holds.
        user.pastes(vec![b'x'; 960 << 10]);
        user.types("\x10\x11");
        user.shows("detached");
        user.wait().exits(0);
    }
    lab.runs("main");
    // What was typed before the keys is not lost if the process reads on.
    let mut user = lab.terminal(["exec", "-it", "web", "sh"]);
    user.shows("# ");
    user.types("echo typed > /typed\n\x10\x11");
    user.wait().exits(0);
    let typed = "until [ -s /typed ]; do usleep 1000; done; cat /typed";
    lab.exec(["web", "sh", "-c", typed]).output().exits(0).prints("typed\n");
    lab.remove("main");
    lab.remove("web");
}

#[test]
fn h13_a_terminal_is_refused_where_there_is_none_and_put_right_after_an_error() {
    let lab = Lab::new();
    lab.refuses(lab.run(["-it", "busybox"]), &["the input device is not a TTY"]);
    lab.idle("web");
    let user = lab.terminal(["exec", "-it", "web", "no-such-command"]);
    let shown = user.wait().exits(127).text();
    assert!(shown.contains("boxwood: ") && shown.contains("no-such-command"), "{shown}");
    let user = lab.terminal(["exec", "-it", "-u", "nobody-such", "web", "sh"]);
    assert!(user.wait().exits(126).text().contains("nobody-such"));
    // A size of nothing is one that nobody knows.
    let mut user = lab.terminal_of((0, 0), ["exec", "-it", "web", "sh", "-c", "read x; exit $x"]);
    user.types("7\n");
    user.wait().exits(7);
    lab.remove("web");
}

#[test]
fn g7_full_screen_programs_work() {
    let lab = Lab::new();
    lab.idle("web");
    let mut user = lab.terminal(["exec", "-it", "web", "vi", "/tmp/text"]);
    user.shows("/tmp/text");
    user.types("ihello\x1b");
    user.shows("hello");
    user.types(":wq\n");
    user.wait().exits(0);
    lab.exec(["web", "cat", "/tmp/text"]).output().exits(0).prints("hello\n");
    let mut user = lab.terminal(["exec", "-it", "web", "top"]);
    user.shows("Load average");
    user.types("q");
    user.wait().exits(0);
    lab.remove("web");
}

#[test]
fn g7_mains_terminal_is_the_boxs_console_and_without_one_there_is_none() {
    let lab = Lab::new();
    let script = "test -c /dev/console && echo to the console > /dev/console; tty; exit 3";
    for user in ["0", "1000"] {
        let mut user =
            lab.terminal(["run", "--rm", "-it", "-u", user, "busybox", "sh", "-c", script]);
        user.shows("to the console\r\n/dev/pts/0\r\n");
        user.wait().exits(3);
    }
    lab.sh("test -e /dev/console").output().exits(1);
}

#[test]
fn g5_who_attaches_late_may_have_all_that_was_written_without_a_gap_and_nothing_twice() {
    let lab = Lab::new();
    let script =
        "i=0; while [ $i -lt 4000 ]; do echo $i; i=$((i+1)); done; echo end >&2; exec sleep 100000";
    lab.detached("web", ["busybox", "sh", "-c", script]);
    let expected: String = (0..4000).map(|number| format!("{number}\n")).collect();
    // One comes at once, one while it writes, one when it has written everything.
    let first = lab.boxwood(["attach", "--logs", "--no-stdin", "web"]).spawn();
    first.says("1000\n");
    let second = lab.boxwood(["attach", "--logs", "--no-stdin", "web"]).spawn();
    second.complains("end\n");
    let third = lab.boxwood(["attach", "--logs", "--no-stdin", "web"]).spawn();
    third.complains("end\n");
    let without = lab.boxwood(["attach", "--no-stdin", "web"]).spawn();
    lab.boxwood(["stop", "web"]).output().exits(0);
    for late in [first, second, third] {
        late.wait().exits(143).prints(&expected).complains("end\n");
    }
    without.wait().exits(143).prints("").quietly();
    lab.remove("web");
}
