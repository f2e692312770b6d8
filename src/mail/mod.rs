//! Mail's own values: addresses, headers, message ids, replies, dates.
