//! Parsed priority strings, kept: parsing one costs as much as a handshake.

use super::gnutls::priority::{Priority, PriorityError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most strings kept; a configuration has one or two, an expansion may give more.
const MAX_KEPT: usize = 64;
/// The string where none is configured.
const DEFAULT: &[u8] = b"NORMAL";

/// Priorities by their text.
#[derive(Default)]
pub(super) struct Priorities(Mutex<HashMap<Vec<u8>, Arc<Priority>>>);

impl Priorities {
    /// The priority for a text; none stands for the default.
    pub fn get(&self, text: Option<&[u8]>) -> Result<Arc<Priority>, PriorityError> {
        let text = text.unwrap_or(DEFAULT);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(priority) = kept.get(text) {
            return Ok(Arc::clone(priority));
        }
        let priority = Arc::new(Priority::parse(text)?);
        if kept.len() >= MAX_KEPT {
            kept.clear();
        }
        kept.insert(text.to_vec(), Arc::clone(&priority));
        Ok(priority)
    }
}
