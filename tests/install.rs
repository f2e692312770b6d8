//! `make install` and `make uninstall`, by packaging/install and packaging/uninstall with the binary of this test.
//!
//! Below a DESTDIR every file, link and mode is compared with packaging/manifest, in both directions. Root also
//! installs for real, in a mount namespace whose `/etc`, `/usr/local`, `/var/spool` and `/home` are the test's
//! own: the user is made, the daemon is started as the unit says, and an ordinary user's message is delivered.

#[path = "support/install/mod.rs"]
mod install;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use install::{Entry, Kind, Layout, entries, have, have_tool, output_of, script};

/// The layout under which the manifest's paths were installed, and the lines the script printed.
struct Staged {
    directory: tempfile::TempDir,
    layout: Layout,
}

impl Staged {
    fn new(layout: Layout) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let staged = Self { directory, layout };
        staged.install();
        staged
    }

    fn install(&self) -> String {
        output_of(&mut script("install", &self.layout, Some(self.directory.path())))
    }

    /// Where a path of the manifest lies.
    fn place(&self, path: &Path) -> PathBuf {
        self.directory.path().join(path.strip_prefix("/").unwrap_or(path))
    }

    fn text(&self, path: &str) -> String {
        let path = self.place(Path::new(path));
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Everything below the directory that is no directory, and the empty directories, as absolute paths.
    fn leaves(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![self.directory.path().to_owned()];
        while let Some(directory) = waiting.pop() {
            let inside: Vec<PathBuf> =
                fs::read_dir(&directory).expect("a directory").flatten().map(|entry| entry.path()).collect();
            let is_empty = inside.is_empty();
            for path in inside {
                if path.symlink_metadata().expect("an entry").is_dir() {
                    waiting.push(path);
                } else {
                    found.insert(self.absolute(&path));
                }
            }
            if is_empty {
                found.insert(self.absolute(&directory));
            }
        }
        found
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        Path::new("/").join(path.strip_prefix(self.directory.path()).unwrap_or(path))
    }
}

fn mode_of(path: &Path) -> u32 {
    let about =
        path.symlink_metadata().unwrap_or_else(|error| panic!("{} is missing: {error}", path.display()));
    about.mode() & 0o7777
}

/// The entry below a DESTDIR: a file's set-id bit waits for the owner, whom a package's scripts give.
fn as_staged(entry: &Entry) -> Entry {
    let bits = if entry.kind == Kind::Directory { 0o7777 } else { 0o777 };
    Entry { mode: entry.mode.map(|mode| mode & bits), ..entry.clone() }
}

/// Checks kind, mode and target of what lies at `place`.
fn check_entry(entry: &Entry, place: &Path) {
    let about =
        place.symlink_metadata().unwrap_or_else(|error| panic!("{} is missing: {error}", place.display()));
    match entry.kind {
        Kind::Link => {
            let target = fs::read_link(place).expect("a link");
            assert_eq!(target, Path::new(&entry.source), "{}", place.display());
        }
        Kind::Directory => assert!(about.is_dir(), "{} is a directory", place.display()),
        Kind::File | Kind::Config => assert!(about.is_file(), "{} is a file", place.display()),
    }
    if let Some(mode) = entry.mode {
        assert_eq!(mode_of(place), mode, "mode of {}", place.display());
    }
}

#[test]
fn everything_in_the_manifest_is_installed_and_nothing_else() {
    let staged = Staged::new(Layout::usual());
    let entries = entries(&staged.layout);
    for entry in &entries {
        check_entry(&as_staged(entry), &staged.place(&entry.path));
    }
    let listed: BTreeSet<PathBuf> = entries.iter().map(|entry| entry.path.clone()).collect();
    let unlisted: Vec<_> = staged.leaves().difference(&listed).cloned().collect();
    assert!(unlisted.is_empty(), "installed, but not in the manifest: {unlisted:?}");
}

#[test]
fn the_names_that_the_program_is_called_by_are_links_to_it() {
    let staged = Staged::new(Layout::usual());
    let entries = entries(&staged.layout);
    for name in ["sendmail", "mailq", "newaliases", "runq", "rsmtp", "rmail", "exim"] {
        let links = entries
            .iter()
            .filter(|entry| entry.kind == Kind::Link && entry.path.file_name().is_some_and(|n| n == name));
        let targets: Vec<PathBuf> =
            links.map(|entry| entry.path.parent().expect("a directory").join(&entry.source)).collect();
        assert!(!targets.is_empty(), "{name} is a link");
        for target in targets {
            assert!(staged.place(&target).is_file(), "{name} points at the program: {}", target.display());
        }
    }
}

#[test]
fn nothing_is_set_uid_root_and_no_staged_file_has_the_rights_of_who_staged_it() {
    let staged = Staged::new(Layout::usual());
    for path in staged.leaves() {
        let place = staged.place(&path);
        let mode = mode_of(&place);
        let set_id = if place.is_file() { 0o6000 } else { 0o4000 };
        assert!(mode & set_id == 0, "{} has mode {mode:o}", path.display());
    }
    let entries = entries(&staged.layout);
    assert!(entries.iter().all(|entry| entry.mode.is_none_or(|mode| mode & 0o4000 == 0)));
}

#[test]
fn a_second_install_keeps_the_configuration_and_renews_the_rest() {
    let staged = Staged::new(Layout::usual());
    let configs: Vec<Entry> =
        entries(&staged.layout).into_iter().filter(|entry| entry.kind == Kind::Config).collect();
    assert!(!configs.is_empty());
    for entry in &configs {
        fs::write(staged.place(&entry.path), "# mine\n").expect("writing");
    }
    let manual = staged.place(Path::new("/usr/local/share/man/man8/oxim.8"));
    fs::write(&manual, "old").expect("writing");
    let said = staged.install();
    for entry in &configs {
        assert_eq!(fs::read_to_string(staged.place(&entry.path)).expect("reading"), "# mine\n");
        assert!(said.contains(&format!("kept {}", staged.place(&entry.path).display())), "{said}");
    }
    assert!(fs::read_to_string(&manual).expect("reading").starts_with(".TH OXIM"));
}

#[test]
fn uninstall_leaves_configuration_spool_logs_and_another_programs_links() {
    let staged = Staged::new(Layout::usual());
    let layout = &staged.layout;
    fs::write(staged.place(&layout.log.join("mainlog")), "a line\n").expect("writing");
    fs::write(staged.place(&layout.spool.join("input/message")), "mail\n").expect("writing");
    let mailq = staged.place(Path::new("/usr/local/bin/mailq"));
    fs::remove_file(&mailq).expect("removing");
    std::os::unix::fs::symlink("/usr/sbin/other-mailer", &mailq).expect("a link");

    output_of(&mut script("uninstall", layout, Some(staged.directory.path())));
    for entry in entries(layout) {
        let place = staged.place(&entry.path);
        let is_there = place.symlink_metadata().is_ok();
        match entry.kind {
            Kind::Config | Kind::Directory => assert!(is_there, "{} stays", place.display()),
            Kind::Link if place == mailq => assert!(is_there, "another program's link stays"),
            Kind::File | Kind::Link => assert!(!is_there, "{} is removed", place.display()),
        }
    }
    assert!(staged.place(&layout.log.join("mainlog")).exists());
    assert!(staged.place(&layout.spool.join("input/message")).exists());
}

#[test]
fn chosen_places_appear_in_the_installed_texts() {
    let staged = Staged::new(Layout::changed());
    for entry in &entries(&staged.layout) {
        check_entry(&as_staged(entry), &staged.place(&entry.path));
    }
    let unit = staged.text("/etc/systemd/system/oxim.service");
    assert!(unit.contains("ExecStart=/opt/mail/sbin/oxim "), "{unit}");
    assert!(staged.text("/opt/mail/share/man/man8/oxim.8").contains("/srv/spool"));
    assert!(staged.text("/opt/mail/share/man/man8/oxim.8").contains("/srv/log"));
    assert!(staged.text("/opt/mail/share/man/man8/oxim.8").contains("/opt/etc/oxim/trusted_configs"));
    assert!(staged.text("/opt/mail/share/man/man8/oxim.8").contains("/opt/etc/mta.conf"));
    assert!(staged.text("/opt/etc/mta.conf").contains("lsearch{/opt/etc/oxim/aliases}"));
    // No text still names a usual place (the program itself has those of its own build).
    for path in staged.leaves() {
        let Ok(text) = fs::read_to_string(staged.place(&path)) else { continue };
        for usual in ["/usr/local/sbin", "/var/spool/oxim"] {
            assert!(!text.contains(usual), "{} names {usual}", path.display());
        }
        assert!(!text.replace("/opt/etc/oxim", "").contains("/etc/oxim"), "{}", path.display());
    }
}

#[test]
fn a_package_below_usr_puts_its_unit_where_packages_do() {
    let staged = Staged::new(Layout { prefix: "/usr".into(), ..Layout::usual() });
    assert!(staged.text("/lib/systemd/system/oxim.service").contains("ExecStart=/usr/sbin/oxim "));
    assert!(staged.place(Path::new("/usr/lib/sendmail")).symlink_metadata().is_ok());
}

#[test]
fn the_example_configuration_is_good_and_uses_only_what_works() {
    let staged = Staged::new(Layout::usual());
    let conf = staged.place(&staged.layout.config_file);
    let output = Command::new(env!("CARGO_BIN_EXE_oxim")).arg("-C").arg(&conf).arg("-bV").output();
    let output = output.expect("running oxim");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(err.is_empty(), "{err}");
    assert!(out.ends_with(&format!("Configuration file is {}\n", conf.display())), "{out}");
}

/// Each place of the example that a comment sign keeps out can be used as it stands.
#[test]
fn the_example_configuration_is_good_with_its_examples_in_use() {
    let staged = Staged::new(Layout::usual());
    let text = fs::read_to_string(staged.place(&staged.layout.config_file)).expect("reading");
    let in_use: Vec<String> = text
        .lines()
        .map(|line| match line.trim_start().strip_prefix("# ") {
            Some(setting) if is_setting(setting) && (cfg!(ocsp_stapling) || !setting.contains("ocsp")) => {
                setting.to_owned()
            }
            _ => line.to_owned(),
        })
        .collect();
    let used = in_use.iter().zip(text.lines()).filter(|(new, old)| new.as_str() != *old).count();
    assert!(used > 8, "only {used} settings were found behind comment signs");
    let conf = staged.directory.path().join("in_use.conf");
    fs::write(&conf, in_use.join("\n") + "\n").expect("writing");
    let output = Command::new(env!("CARGO_BIN_EXE_oxim")).arg("-C").arg(&conf).arg("-bV").output();
    let output = output.expect("running oxim");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.is_empty(), "{err}");
}

/// `name = value`, `name:` or a bare word that is a boolean option.
fn is_setting(text: &str) -> bool {
    let name: String = text.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    let rest = text.trim()[name.len()..].trim_start();
    !name.is_empty() && (rest.starts_with('=') || rest == ":" || rest.is_empty())
}

#[test]
fn the_manual_pages_have_no_fault_that_a_checker_finds() {
    let staged = Staged::new(Layout::changed());
    for page in ["man8/oxim.8", "man8/ocsp_fetch.8", "man7/oxim-tls.7"] {
        let page = staged.place(&Path::new("/opt/mail/share/man").join(page));
        if have_tool("mandoc") {
            let output =
                Command::new("mandoc").args(["-Tlint", "-Wwarning"]).arg(&page).output().expect("mandoc");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        if have_tool("groff") {
            let output = Command::new("groff")
                .args(["-ww", "-man", "-Tutf8", "-z"])
                .arg(&page)
                .output()
                .expect("groff");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
    }
}

#[test]
fn the_manual_page_of_tls_gives_the_defaults_of_the_option_tables() {
    let tables = oxim::load::tables::tables();
    let transports = tables.transports.iter().flat_map(|driver| driver.options.iter());
    let known: Vec<_> = tables.main.iter().chain(transports).collect();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/man/oxim-tls.7"))
        .expect("reading");
    let mut seen = 0;
    for line in page.lines().filter_map(|line| line.strip_prefix(".BR ")) {
        let Some((name, about)) = line.split_once(" \" (") else { continue };
        let Some(default) = about.split_once("default ").and_then(|(_, rest)| rest.strip_suffix(")\""))
        else {
            panic!("{line:?} gives no default");
        };
        let Some(option) = known.iter().find(|option| option.name == name) else {
            assert!(!cfg!(ocsp_stapling) && name.contains("ocsp"), "{name} is no option");
            continue;
        };
        let real = if option.default.is_empty() { "unset" } else { option.default };
        assert_eq!(default, real, "default of {name}");
        seen += 1;
    }
    assert!(seen > 4, "only {seen} options were found in the page");
}

#[test]
fn make_help_lists_every_target_and_every_setting() {
    let makefile = fs::read_to_string(install::repository().join("Makefile")).expect("the Makefile");
    let said = output_of(
        Command::new("make").arg("--no-print-directory").arg("help").current_dir(install::repository()),
    );
    let is_lower = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let is_upper = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let targets: Vec<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .filter(|name| is_lower(name))
        .collect();
    let settings: Vec<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(" ?="))
        .map(|(name, _)| name)
        .filter(|name| is_upper(name) && *name != "CARGO")
        .collect();
    assert!(targets.len() > 12 && settings.len() > 18, "{targets:?} {settings:?}");
    for name in targets.iter().chain(&settings) {
        let listed = said.lines().any(|line| line.split_whitespace().next() == Some(name));
        assert!(listed, "make help does not list {name}:\n{said}");
    }
    // each has its paragraph in the block at the head of the Makefile
    for name in settings {
        let at = makefile.lines().position(|line| line.starts_with(&format!("{name} ?="))).expect("its line");
        let above: Vec<&str> = makefile.lines().take(at).collect();
        let documented =
            above.iter().rev().find(|line| !line.contains("?=")).is_some_and(|line| line.starts_with('#'));
        assert!(documented, "{name} has no comment above it");
    }
}

/// `make` with a cargo that copies this test's program and counts; what was built.
fn make(directory: &Path, arguments: &[&str]) -> usize {
    let cargo = directory.join("cargo");
    let program = env!("CARGO_BIN_EXE_oxim");
    let text = format!(
        "#!/bin/sh\nmkdir -p $CARGO_TARGET_DIR/release; cp {program} $CARGO_TARGET_DIR/release/oxim\n\
         echo built >>{}/builds\n",
        directory.display()
    );
    fs::write(&cargo, text).expect("writing");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("chmod");
    let builds = || fs::read_to_string(directory.join("builds")).unwrap_or_default().lines().count();
    let before = builds();
    output_of(
        Command::new("make")
            .args(arguments)
            .arg(format!("CARGO={}", cargo.display()))
            .arg(format!("DESTDIR={}", directory.join("root").display()))
            .env("CARGO_TARGET_DIR", directory)
            .env_remove("MAKEFLAGS")
            .env_remove("DISABLE_OCSP")
            .current_dir(install::repository()),
    );
    builds() - before
}

#[test]
fn make_install_builds_only_what_is_not_built_yet_with_these_settings() {
    let scratch = tempfile::tempdir().expect("a directory");
    let directory = scratch.path();
    assert_eq!(make(directory, &["all"]), 1);
    assert_eq!(make(directory, &["install"]), 0, "sudo make install after make needs no cargo");
    let installed = directory.join("root/usr/local/sbin/oxim");
    let program = fs::read(env!("CARGO_BIN_EXE_oxim")).expect("the program");
    assert!(fs::read(&installed).expect("the installed program") == program);
    for changed in ["MAILER_NAME=Exim", "DISABLE_OCSP=yes", "MESSAGE_IDS=short"] {
        assert_eq!(make(directory, &["install", changed]), 1, "{changed} has to be built");
        assert_eq!(make(directory, &["install", changed]), 0);
    }
    assert_eq!(make(directory, &["install"]), 1);
    make(directory, &["uninstall"]);
    assert!(!installed.exists());
}

/// A package is made from the manifest, too: what is not root's is handed to the chosen user by its scripts.
#[test]
fn packages_get_their_lists_of_files_from_the_manifest() {
    let layout = Layout { prefix: "/usr".into(), ..Layout::usual() };
    let said = output_of(&mut script("list", &layout, None));
    let listed: BTreeSet<&str> = said.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    let entries = entries(&layout);
    assert_eq!(listed.len(), entries.len());
    for entry in entries {
        let path = entry.path.to_str().expect("a path");
        assert!(listed.contains(path), "{path} is not listed");
        let owned = |name: &str| match name {
            "oxim" => oxim::config::build_settings::USER.to_owned(),
            "keeper" => oxim::config::build_settings::KEEPER_USER.to_owned(),
            _ => name.to_owned(),
        };
        let line = said.lines().find(|line| line.ends_with(&format!(" {path}"))).expect("its line");
        assert_eq!(line.split(' ').nth(2), Some(owned(&entry.owner.0).as_str()), "{line}");
    }
}

#[test]
fn installed_for_real_it_starts_by_its_unit_and_takes_and_delivers_a_users_message() {
    if install::is_inside() {
        return install::real::everything();
    }
    if !have("root with mount namespaces", install::real::can_run()) {
        return;
    }
    install::real::run_inside(
        "installed_for_real_it_starts_by_its_unit_and_takes_and_delivers_a_users_message",
    );
}
