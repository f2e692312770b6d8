//! One SMTP connection, as server.
