//! A process of the drill's stack that may be stopped, frozen, killed and started again, always at the same addresses.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

pub struct Part {
    name: String,
    command: Box<dyn Fn() -> Command + Send + Sync>,
    log: PathBuf,
    child: Option<Child>,
    /// What takes its standard output, where that is a process.
    reader: Option<Child>,
    wants_reader: bool,
    /// How often it was started.
    pub starts: usize,
}

impl Part {
    /// Not yet started.
    pub fn new(name: &str, directory: &Path, command: impl Fn() -> Command + Send + Sync + 'static) -> Self {
        let log = directory.join(format!("{name}.log"));
        let command = Box::new(command);
        Self { name: name.to_owned(), command, log, child: None, reader: None, wants_reader: false, starts: 0 }
    }

    /// Its standard output is taken by a process, as a container's is; the log has only that.
    pub fn with_reader(mut self) -> Self {
        self.wants_reader = true;
        self
    }

    fn file(&self, ending: &str) -> File {
        File::options().create(true).append(true).open(self.log.with_extension(ending)).unwrap()
    }

    pub fn start(&mut self) {
        if self.is_alive() {
            return;
        }
        let mut command = (self.command)();
        command.stdin(Stdio::null());
        if self.wants_reader {
            command.stdout(Stdio::piped()).stderr(self.file("err"));
        } else {
            command.stdout(self.file("log")).stderr(self.file("log"));
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        if let Some(output) = child.stdout.take() {
            self.end_reader();
            let reader = Command::new("cat").stdin(output).stdout(self.file("log")).spawn().unwrap();
            self.reader = Some(reader);
        }
        self.child = Some(child);
        self.starts += 1;
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn reader_pid(&self) -> Option<u32> {
        self.reader.as_ref().map(Child::id)
    }

    pub fn is_alive(&mut self) -> bool {
        let ended = self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
        if ended {
            self.child = None;
        }
        !ended
    }

    /// To the process, if there is one.
    pub fn signal(&self, name: &str) {
        if let Some(pid) = self.pid() {
            signal(name, &pid.to_string());
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _already_gone = child.kill();
            let _reaped = child.wait();
        }
    }

    fn end_reader(&mut self) {
        if let Some(mut reader) = self.reader.take() {
            let _already_gone = reader.kill();
            let _reaped = reader.wait();
        }
    }

    pub fn log(&self) -> String {
        let errors = std::fs::read_to_string(self.log.with_extension("err")).unwrap_or_default();
        errors + &std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What was logged before is forgotten; writers append.
    pub fn forget_log(&self) {
        let _none_yet = File::options().write(true).truncate(true).open(&self.log);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
        self.end_reader();
    }
}

/// `pids` as kill(1) takes them, a group with a minus.
pub fn signal(name: &str, pids: &str) {
    let _already_gone = Command::new("kill")
        .arg(format!("-{name}"))
        .arg("--")
        .args(pids.split_whitespace())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
