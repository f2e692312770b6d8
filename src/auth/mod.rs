//! SMTP authenticators: their options; none acts yet.
