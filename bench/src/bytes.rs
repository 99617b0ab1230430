//! How much goes through a session in a second, alternating with the same through a bare port: a kernel of
//! the store's, busybox's `dd` at the port of a VM like a box's, and nothing of ours in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use boxwood_tests::Lab;

use crate::table::{Sample, print};

const ROUNDS: usize = 5;
const BYTES: usize = 256 << 20;
const BLOCK: usize = 64 * 1024;

/// Which way bytes go, and what does that in a box, and on the descriptor 3 of the bare port.
const WAYS: [(&str, &str, &str); 3] = [
    ("out", "dd if=/dev/zero bs=65536 count=4096", "dd if=/dev/zero bs=65536 count=4096 >&3"),
    (
        "in",
        "dd of=/dev/null bs=65536 iflag=fullblock count=4096",
        "dd of=/dev/null bs=65536 iflag=fullblock count=4096 <&3",
    ),
    ("in and out again", "dd bs=65536", "dd bs=65536 <&3 >&3"),
];

/// All ways, through both.
pub(crate) fn measure(count: Option<usize>) {
    let lab = &Lab::of_installation();
    let rounds = count.unwrap_or(ROUNDS);
    let file = lab.folder().join("bytes");
    fs::write(&file, vec![b'x'; BYTES]).expect("can't write what is to be sent");
    lab.idle("bench-bytes");
    let arguments = lab.exec(["bench-bytes", "cat", "/proc/cmdline"]).output().exits(0).text();
    let mut rows = Vec::new();
    for (title, in_box, at_port) in WAYS {
        let [mut session, mut bare] = [Sample::default(), Sample::default()];
        for _ in 0..rounds {
            session.add_ms(through_session(lab, in_box));
            bare.add_ms(through_port(lab, arguments.trim(), at_port));
        }
        let figures = [session.median(), bare.median(), session.median() / bare.median()];
        let cells = [0, 0, 2].into_iter().zip(figures);
        let cells = cells.map(|(digits, figure)| format!("{figure:.digits$}"));
        rows.push(std::iter::once(title.to_owned()).chain(cells).collect());
    }
    lab.remove("bench-bytes");
    let headings = ["direction", "session MB/s", "bare port MB/s", "ratio"];
    print("268 MB, medians", &headings, &rows);
}

fn per_second(began: Instant) -> f64 {
    BYTES as f64 / 1e6 / began.elapsed().as_secs_f64()
}

fn through_session(lab: &Lab, script: &str) -> f64 {
    let input = File::open(lab.folder().join("bytes")).expect("what was written is gone");
    let null = File::options().write(true).open("/dev/null").expect("no /dev/null");
    let script = format!("{script} 2>/dev/null");
    let run = lab.exec(["-i", "bench-bytes", "sh", "-c", &script]);
    let began = Instant::now();
    drop(run.stdin_from(input).stdout_to(null).output().exits(0));
    per_second(began)
}

/// The VM ends when this is dropped.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn through_port(lab: &Lab, arguments: &str, command: &str) -> f64 {
    initramfs(lab, command);
    let socket = lab.folder().join("port");
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("can't listen for the VM");
    let _vm = Bare(boot(lab, arguments));
    let (mut port, _) = listener.accept().expect("the VM does not come");
    let mut ready = [0; 6];
    port.read_exact(&mut ready).expect("the VM does not get ready");
    let began = Instant::now();
    // It begins when it is told to.
    port.write_all(b"\n").expect("the VM does not listen");
    std::thread::scope(|threads| {
        let input = port.try_clone().expect("no second descriptor");
        if command.contains("<&3") {
            threads.spawn(move || feed(input));
        }
        drain(&mut port);
    });
    per_second(began)
}

fn feed(mut port: UnixStream) {
    let block = vec![b'x'; BLOCK];
    for _ in 0..BYTES / BLOCK {
        port.write_all(&block).expect("the VM does not read");
    }
}

/// Until everything has come back, or the word that it has arrived.
fn drain(port: &mut UnixStream) {
    let mut block = vec![0; BLOCK];
    let mut left = BYTES;
    while left > 0 {
        let count = port.read(&mut block).expect("the VM does not answer");
        if block[..count].ends_with(b"done\n") {
            return;
        }
        assert_ne!(count, 0, "the VM has ended");
        left = left.saturating_sub(count);
    }
}

/// With an init that does this; what only takes in says when it has all.
fn initramfs(lab: &Lab, command: &str) {
    let modules = kernel(lab).join("modules");
    let (root, image) = (lab.folder().join("bare"), lab.folder().join("bare.cpio"));
    for folder in ["bin", "dev", "m", "sys"] {
        fs::create_dir_all(root.join(folder)).expect("can't make the initramfs");
    }
    let end = if command.contains(">&3") { "" } else { "echo done >&3" };
    let init = format!(
        "#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n\
         /bin/busybox mount -t sysfs sys /sys\n\
         for m in /m/00[0-3]*; do /bin/busybox insmod $m; done\n\
         while ! [ -e /sys/class/virtio-ports/vport0p1/name ]; do :; done\nexec 3<>/dev/vport0p1\necho ready >&3\n\
         read go <&3\n/bin/busybox {command} 2>/dev/null\n{end}\nexec /bin/busybox sleep 1000\n"
    );
    fs::write(root.join("init"), init).expect("can't write the init script");
    let pack = "chmod 755 init && cp /usr/bin/busybox bin/ && cp \"$1\"/* m/ && \
        find . | busybox cpio -o -H newc > \"$2\" 2>/dev/null";
    let mut shell = Command::new("sh");
    let packed = shell.current_dir(&root).args(["-c", pack, "sh"]).arg(modules).arg(image).status();
    assert!(packed.is_ok_and(|status| status.success()), "can't pack the initramfs");
}

fn kernel(lab: &Lab) -> std::path::PathBuf {
    let kernels = lab.store().join("kernel");
    let current = fs::read(kernels.join("current.json")).expect("no kernel in the store");
    let current: serde_json::Value =
        serde_json::from_slice(&current).expect("no record of a kernel");
    kernels.join(current["id"].as_str().expect("a kernel without an id"))
}

/// A VM with a box's machine, CPU, kernel arguments and port.
fn boot(lab: &Lab, arguments: &str) -> Child {
    let folder = lab.folder().display();
    let port = format!("socket,id=channel,path={folder}/port");
    Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max,-erms", "-smp", "1", "-m", "512M"])
        .args(["-M", "microvm,x-option-roms=off,rtc=on,acpi=on", "-display", "none"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-chardev", &port])
        .args(["-device", "virtio-serial-device,max_ports=2"])
        .args(["-device", "virtserialport,nr=1,chardev=channel,name=box.0", "-append", arguments])
        .arg("-kernel")
        .arg(kernel(lab).join("vmlinux"))
        .arg("-initrd")
        .arg(lab.folder().join("bare.cpio"))
        .stdin(Stdio::null())
        .spawn()
        .expect("QEMU can't be started")
}
