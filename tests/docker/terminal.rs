//! A terminal that a test types into and looks at.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::wait;

pub struct Terminal {
    master: File,
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    /// Runs a command in a terminal of this size, as its controlling one.
    pub fn run(command: &Command, columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("a terminal of our own");
        unlockpt(&master).expect("an unlocked terminal");
        let name = ptsname(&master, Vec::new()).expect("a terminal with a name");
        let path = name.to_str().expect("a terminal's name is plain");
        let open = || File::options().read(true).write(true).open(path).expect("its other side");
        resize(&master, columns, rows);
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(command.get_program()).args(command.get_args());
        session.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        session.current_dir(command.get_current_dir().expect("a command of a room"));
        session.stdin(Stdio::from(open())).stdout(open()).stderr(open());
        let child = session.spawn().expect("setsid is there");
        let master = File::from(master);
        let (shown, mut reader) = (Arc::default(), master.try_clone().expect("a file is shared"));
        let screen: Arc<Mutex<String>> = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // Reading fails once nobody has the other side open.
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                screen.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        Self { master, child, shown }
    }

    pub fn resize(&self, columns: u16, rows: u16) {
        resize(&self.master, columns, rows);
    }

    pub fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("the terminal is there");
    }

    /// Whether the screen has shown a text.
    pub fn shows(&self, text: &str) -> bool {
        self.shown.lock().unwrap().contains(text)
    }

    /// The exit code, once the command ended.
    pub fn code(mut self) -> i32 {
        let ended = || self.child.try_wait().expect("a child").and_then(|status| status.code());
        wait::until("the command's end", || "it goes on", ended)
    }
}

fn resize(terminal: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("a terminal has a size");
}
