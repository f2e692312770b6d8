//! strace on processes that run already: it shows what they do, kills them at a system call, or lets one fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A running strace. Dropped, it is killed; the traced processes go on.
pub struct Trace {
    child: Child,
    file: PathBuf,
}

impl Trace {
    /// Attaches to these processes with all their threads, and those to come.
    pub fn attach(file: &Path, processes: &[i32], arguments: &[&str]) -> Result<Trace, String> {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o"]).arg(file).args(arguments);
        for process in processes {
            strace.args(["-p", &process.to_string()]);
        }
        let child = strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let trace = Trace { child: child.map_err(|e| format!("strace: {e}"))?, file: file.to_owned() };
        poll(10, "strace to attach", || processes.iter().all(|id| is_traced(*id)))?;
        Ok(trace)
    }

    /// What was traced so far.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap_or_default()
    }

    /// Whether a system call was met that something was to happen at.
    pub fn has_struck(&self) -> bool {
        let text = self.text();
        text.contains("killed by SIGKILL") || text.contains("(INJECTED)")
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // not SIGTERM: strace 6.1 then waits for ever for a dead leader whose thread it has not reaped
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_traced(id: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        status.lines().any(|l| l.starts_with("TracerPid:") && !l.ends_with("\t0"))
    })
}

/// Waits until it is so, at most this long.
pub fn poll(seconds: u64, what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < deadline {
        if done() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(format!("waited in vain for {what}"))
}
