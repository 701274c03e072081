//! Debian's `firewalld` on one network namespace, with a bus and settings of its own: the machine's stay as they are.
//!
//! A test file that needs it says `#[path = "../support/firewalld.rs"] mod firewalld;`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::skip::not_tried;

/// It is Python, and a loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whoever is root may do anything on this bus: it lies in a folder of the test's own.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="root"/>
    <allow own="*"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

pub struct Firewalld {
    network: PathBuf,
    folder: tempfile::TempDir,
    /// The last one first: who uses the bus ends before it does.
    running: Vec<Child>,
}

impl Firewalld {
    /// Not running yet. Nothing, and a loud skip, where it is not installed.
    pub fn prepared(network: &Path) -> Option<Self> {
        let missing = ["firewalld", "firewall-cmd", "dbus-daemon"].iter().find(|program| {
            let folders = ["/usr/sbin", "/usr/bin"].map(Path::new);
            !folders.iter().any(|folder| folder.join(program).exists())
        });
        if let Some(missing) = missing {
            not_tried(&format!("{missing} is not installed"));
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder can be made");
        std::fs::create_dir(folder.path().join("settings")).expect("a folder can be made");
        let mut made = Self { network: network.to_owned(), folder, running: Vec::new() };
        let bus = BUS.replace("SOCKET", &made.socket().display().to_string());
        let settings = made.folder.path().join("bus.conf");
        std::fs::write(&settings, bus).expect("the settings can be written");
        let mut daemon = made.inside("dbus-daemon");
        daemon.args(["--nofork", "--nopidfile", "--config-file"]).arg(settings);
        made.spawn(daemon);
        made.until("the bus is there", |made| made.socket().exists());
        Some(made)
    }

    /// With its own defaults: everything in the zone `public`. Returns when its rules are in force.
    pub fn start(&mut self) {
        let mut daemon = self.inside("firewalld");
        daemon.args(["--nofork", "--nopid", "--log-target", "console", "--system-config"]);
        daemon.arg(self.folder.path().join("settings"));
        self.spawn(daemon);
        self.until("firewalld runs", |made| made.ask(&["--state"]).status.success());
    }

    /// `firewall-cmd`, which is right or ends the test.
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "firewall-cmd {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// For whoever else is to find it: the value of `DBUS_SYSTEM_BUS_ADDRESS`.
    pub fn bus(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.inside("firewall-cmd").args(arguments).output().expect("nsenter is there")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.network.display())).arg(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.bus());
        command
    }

    fn spawn(&mut self, mut command: Command) {
        let log = std::fs::File::options().create(true).append(true).open(self.log());
        let log = log.expect("the log can be written");
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("one more")).stdout(log);
        self.running.insert(0, command.spawn().expect("nsenter is there"));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn until(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is(self) {
            let log = std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(begun.elapsed() < PATIENCE, "never {what}:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for process in &mut self.running {
            // One that has ended by itself is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
