//! What is written to the main, reject and panic logs, and how.
