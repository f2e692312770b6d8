//! The C library's words for an error, as every program shows them: without Rust's `(os error 28)`.

use std::io;

/// The words for an error of the system; an error of another kind tells itself.
pub fn system_words(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), errno_words)
}

/// The words for an error number.
pub fn errno_words(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.rfind(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_c_librarys_and_have_no_number() {
        assert_eq!(system_words(&io::Error::from_raw_os_error(libc::ENOSPC)), "No space left on device");
        assert_eq!(system_words(&io::Error::other("no regular file")), "no regular file");
        assert_eq!(errno_words(libc::EACCES), "Permission denied");
    }
}
