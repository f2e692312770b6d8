//! Plays one case in one mode and writes down everything that can be seen: one text, which is
//! what is recorded from exim4 and compared with oxim.

use std::fs;
use std::io::BufReader;
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use super::case::{Action, Caller, Case, Step};
use super::dialogue::{self, Sink};
use super::hidden::{self, Hidden};
use super::name_server::NameServer;
use super::normalise::Normaliser;
use super::world::{self, Call, Mode, Workshop, World};

/// Plays the case; the text is normalised. The error says which step could not be played.
pub fn play(workshop: &Workshop, name: &str, case: &Case, mode: Mode) -> Result<String, String> {
    let mut world = World::new(workshop, name, mode).map_err(|e| format!("set-up: {e}"))?;
    let mut player = Player { text: String::new(), sink: None, name_server: None, hidden: Hidden::default() };
    for step in &case.steps {
        let played = player.prepare(&mut world, step).and_then(|()| player.step(&mut world, step));
        played.map_err(|e| format!("=== {}: {e}", step.title))?;
    }
    player.hidden.settle(&world);
    world.stop_daemon()?;
    if let Some(sink) = &player.sink {
        player.text.push_str(&format!("=== heard by the sink\n{}", sink.heard()));
    }
    player.look_around(&world, case);
    let mut text = Normaliser::new(world.output_names()).apply(&player.text);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

struct Player {
    text: String,
    sink: Option<Sink>,
    name_server: Option<NameServer>,
    hidden: Hidden,
}

impl Player {
    /// Sees to the daemon that only the mode needs, before a step.
    fn prepare(&mut self, world: &mut World, step: &Step) -> Result<(), String> {
        self.hidden.settle(world);
        match &step.action {
            Action::File { name, .. } if name == "exim.conf" => self.hidden.stop(world),
            Action::Daemon { .. } => self.hidden.stop(world),
            Action::Call { caller: Caller::User, arguments, .. } if hidden::takes_part_in(arguments) => {
                self.hidden.start(world)
            }
            _ => Ok(()),
        }
    }

    fn step(&mut self, world: &mut World, step: &Step) -> Result<(), String> {
        match &step.action {
            Action::File { name, mode } => {
                world.write_file(name, *mode, &step.body).map_err(|e| e.to_string())
            }
            Action::Call { caller, name, bare, arguments } => {
                let call = Call {
                    caller: *caller,
                    name: name.as_deref(),
                    bare: *bare,
                    arguments,
                    input: &step.body,
                };
                let output = world.call(&call).map_err(|e| e.to_string())?;
                self.hidden.heard_call(world, *caller, arguments);
                self.write_output(step, &output);
                Ok(())
            }
            Action::Daemon { arguments } => world.start_daemon(arguments),
            Action::Stop => world.stop_daemon(),
            Action::Smtp { options } => self.smtp(world, step, options),
            Action::Tls { arguments } => self.tls(world, step, arguments),
            Action::Sink => {
                let sink = Sink::start(world.sink_port, &step.body).map_err(|e| e.to_string())?;
                self.sink = Some(sink);
                Ok(())
            }
            Action::Dns { options } => {
                // one that runs is ended before the next begins
                self.name_server = None;
                let server = NameServer::start(world.directory.join("zone")).map_err(|e| e.to_string())?;
                let text = server.resolv_conf(&options.join(" "));
                self.name_server = Some(server);
                world.write_resolv_conf(&text).map_err(|e| e.to_string())
            }
            Action::WaitMainlog { text, count } => world.wait_mainlog(text, *count),
            Action::Shell => {
                let output = world.shell(&step.body).map_err(|e| e.to_string())?;
                if output.status.success() {
                    return Ok(());
                }
                Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)))
            }
            Action::Show => {
                let output = world.shell(&step.body).map_err(|e| e.to_string())?;
                self.write_output(step, &output);
                Ok(())
            }
        }
    }

    fn smtp(&mut self, world: &World, step: &Step, options: &[String]) -> Result<(), String> {
        let port = options.iter().find_map(|o| o.strip_prefix("port="));
        let port: u16 =
            port.map_or(Ok(world.port), |p| world.substitute(p).parse()).map_err(|_| "bad port")?;
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("connect: {e}"))?;
        let said =
            dialogue::talk(stream.try_clone().map_err(|e| e.to_string())?, &world.substitute(&step.body));
        let _ = stream.shutdown(Shutdown::Both);
        self.text.push_str(&format!("=== {}\n{said}", step.title));
        Ok(())
    }

    /// `openssl s_client -quiet` does the handshake; then its pipes are the connection.
    fn tls(&mut self, world: &World, step: &Step, arguments: &[String]) -> Result<(), String> {
        let on_connect = arguments.first().is_some_and(|a| a == "on-connect");
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", world.port)]);
        if !on_connect {
            command.args(["-starttls", "smtp"]);
        }
        command.args(arguments.iter().skip(usize::from(on_connect)).map(|a| world.substitute(a)));
        command.current_dir(&world.directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|e| format!("openssl: {e}"))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("openssl: no pipes".into());
        };
        // after STARTTLS there is no greeting; pipes have no time-out, so a guard ends a stuck client
        let guard = world::KillAfter::new(&child, world::COMMAND_DEADLINE);
        let said =
            dialogue::converse(BufReader::new(stdout), stdin, &world.substitute(&step.body), on_connect);
        drop(guard);
        let _ = child.kill();
        let _ = child.wait();
        self.text.push_str(&format!("=== {}\n{said}", step.title));
        Ok(())
    }

    fn write_output(&mut self, step: &Step, output: &Output) {
        self.text.push_str(&format!("=== {}\n", step.title));
        match output.status.code() {
            Some(code) => self.text.push_str(&format!("exit {code}\n")),
            None => self.text.push_str(&format!("{}\n", output.status)),
        }
        self.write_lines("out| ", &output.stdout);
        self.write_lines("err| ", &output.stderr);
    }

    fn write_lines(&mut self, prefix: &str, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if self.hidden.said(line) {
                continue;
            }
            self.text.push_str(&format!("{prefix}{line}\n"));
        }
    }

    /// Logs, mail files and what is left in the spool.
    fn look_around(&mut self, world: &World, case: &Case) {
        for name in ["mainlog", "rejectlog", "paniclog"] {
            let text = fs::read(world.directory.join("log").join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let mut lines: Vec<&str> = text.lines().filter(|l| !self.hidden.said(l)).collect();
            if lines.is_empty() {
                continue;
            }
            if name == "mainlog" && case.sort_mainlog {
                sort_by_message(&mut lines);
            }
            self.text.push_str(&format!("=== {name}\n{}\n", lines.join("\n")));
        }
        self.mail_files(world);
        self.spool_files(world);
    }

    /// Every file below `mail/`, those of one directory in the order of their content.
    fn mail_files(&mut self, world: &World) {
        let root = world.directory.join("mail");
        let log = fs::read_to_string(world.directory.join("log/mainlog")).unwrap_or_default();
        let mut found = Vec::new();
        for path in files_below(&root) {
            let relative = path.strip_prefix(&root).unwrap_or(&path).to_path_buf();
            let parent = relative.parent().unwrap_or(Path::new("")).to_path_buf();
            let in_maildir = ["new", "cur", "tmp"].iter().any(|d| parent.ends_with(d));
            let shown = if in_maildir { parent } else { relative };
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            found.push((shown, arrival(&text, &log), stable_part(&text), mode_and_owner(world, &path), text));
        }
        found.sort();
        for (shown, _, _, mode, text) in found {
            self.text.push_str(&format!("=== mail {} {mode}\n{text}", shown.display()));
            if !text.ends_with('\n') {
                self.text.push_str("<no newline at the end>\n");
            }
        }
    }

    /// What is left in `input/`: names, and -H and -J with their content.
    fn spool_files(&mut self, world: &World) {
        let mut files = files_below(&world.directory.join("spool/input"));
        files.sort();
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.text.push_str(&format!("=== spool {name} {}\n", mode_and_owner(world, &path)));
            if name.ends_with("-H") || name.ends_with("-J") {
                let text = fs::read(&path).unwrap_or_default();
                self.text.push_str(&String::from_utf8_lossy(&text));
            }
        }
    }
}

/// Sorts log lines by their text, but messages in the order they first come: their ids hold process ids,
/// and say nothing about the order of two within one second.
fn sort_by_message(lines: &mut [&str]) {
    let id = |line: &str| {
        line.get(20..)?.split(' ').next().filter(|w| w.matches('-').count() == 2).map(str::to_owned)
    };
    let mut ids: Vec<String> = Vec::new();
    for line in lines.iter() {
        ids.extend(id(line).filter(|id| !ids.contains(id)));
    }
    lines.sort_by_key(|line| {
        let text = line.get(20..).unwrap_or_default().to_owned();
        match id(line).and_then(|id| Some((ids.iter().position(|i| *i == id)?, id.len()))) {
            // every id begins with a digit: among the other lines it keeps its place
            Some((rank, length)) => format!("1{rank:05}{}", &text[length..]),
            None => text,
        }
    });
}

/// Where the log first has the message's id: process ids start anew now and then, so that ids of one second do not tell
/// which was first.
fn arrival(text: &str, log: &str) -> usize {
    let id = text.lines().find_map(|line| line.strip_prefix("\tid "));
    id.and_then(|id| log.find(id.trim_end_matches(';'))).unwrap_or(usize::MAX)
}

/// A message without what differs between two runs, to sort by.
fn stable_part(text: &str) -> String {
    text.lines().filter(|l| l.starts_with("Subject:") || !l.contains(':')).collect::<Vec<_>>().join("\n")
}

fn mode_and_owner(world: &World, path: &Path) -> String {
    let Ok(metadata) = fs::metadata(path) else { return "?".into() };
    let owner = match nix::unistd::User::from_uid(metadata.uid().into()) {
        _ if metadata.uid() == 64911 => "@CALLER@".to_owned(),
        _ if metadata.uid() == 64912 => "@USER@".to_owned(),
        _ if metadata.uid() == 64901 => "@EXIM@".to_owned(),
        _ if world.mode == Mode::OneUser => "@USER@".to_owned(),
        Ok(Some(user)) if user.name == "oxim" || user.name == "Debian-exim" => "@EXIM@".to_owned(),
        Ok(Some(user)) => user.name,
        _ => metadata.uid().to_string(),
    };
    format!("{:04o} {owner}", metadata.permissions().mode() & 0o7777)
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}
