//! What this thread, and all that it starts from now on, may still write to (Landlock, Linux 5.19).
//!
//! Reading is restricted only for the process that no configuration tells what to read. Descriptors that are open stay
//! usable.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use std::path::PathBuf;

/// From here on nothing is made, changed, renamed or removed but beneath these places; set-uid programs give no
/// rights any more. An error means that nothing is restricted: the kernel cannot, or may not.
pub fn confine_writes(places: &[PathBuf]) -> Result<(), String> {
    told(restrict_writes(places))
}

/// The same, and nothing is read or executed but beneath `read`.
pub fn confine(write: &[PathBuf], read: &[PathBuf]) -> Result<(), String> {
    told(restrict(write, read))
}

fn told(result: Result<RulesetStatus, RulesetError>) -> Result<(), String> {
    match result.map_err(|error| error.to_string())? {
        RulesetStatus::NotEnforced => Err("this kernel has no Landlock".to_owned()),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn restrict(write: &[PathBuf], read: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V2))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V3))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(ABI::V3)))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(ABI::V3)))?;
    Ok(rules.restrict_self()?.ruleset)
}

fn restrict_writes(places: &[PathBuf]) -> Result<RulesetStatus, RulesetError> {
    let rules = Ruleset::default()
        // The first version forbids every rename between directories, which the spool needs.
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_write(ABI::V2))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_write(ABI::V3))?
        .create()?
        .add_rules(path_beneath_rules(places, AccessFs::from_write(ABI::V3)))?;
    Ok(rules.restrict_self()?.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::ErrorKind;

    #[test]
    fn beneath_the_places_everything_is_allowed_and_elsewhere_only_reading() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("there"), "text").unwrap();
        fs::create_dir(inside.path().join("one")).unwrap();
        fs::create_dir(inside.path().join("two")).unwrap();
        let (inner, outer) = (inside.path().to_owned(), outside.path().to_owned());
        // Only the thread that confines itself, and those that it starts, are confined.
        let confined = std::thread::spawn(move || {
            if let Err(why) = confine_writes(&[inner.clone(), PathBuf::from("/dev/null")]) {
                return eprintln!("skipped: {why}");
            }
            let started = std::thread::spawn(move || {
                fs::write(inner.join("one/file"), "x").unwrap();
                fs::rename(inner.join("one/file"), inner.join("two/file")).unwrap();
                fs::remove_file(inner.join("two/file")).unwrap();
                fs::write("/dev/null", "x").unwrap();
                assert_eq!(fs::read(outer.join("there")).unwrap(), b"text");
                let refused = |result: std::io::Result<()>| {
                    let kind = result.unwrap_err().kind();
                    assert!(
                        matches!(kind, ErrorKind::PermissionDenied | ErrorKind::CrossesDevices),
                        "{kind:?}"
                    );
                };
                refused(fs::write(outer.join("there"), "other"));
                refused(fs::write(outer.join("new"), "other"));
                refused(fs::create_dir(outer.join("directory")));
                refused(fs::remove_file(outer.join("there")));
                fs::write(inner.join("file"), "x").unwrap();
                refused(fs::rename(inner.join("file"), outer.join("moved")));
            });
            started.join().unwrap();
        });
        confined.join().unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        fs::write(outside.path().join("free"), "the test's own thread is not confined").unwrap();
    }
}
