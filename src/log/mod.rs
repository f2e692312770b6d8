//! What is written to the main, reject and panic logs, and how.
pub mod line;
pub mod selector;
pub mod sink;
pub mod syslog;

pub use line::{Arrival, Delivery, DeliveryHost, Event, Flag};
pub use selector::{Selector, SelectorError, Selectors};
pub use sink::{Log, LogSettings, Which, parse_log_file_path};
pub use syslog::SyslogSettings;
